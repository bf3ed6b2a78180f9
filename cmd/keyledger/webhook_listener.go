package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyledger/keyledger/events"
	hooks "github.com/keyledger/keyledger/webhooks/verify"
)

// listener answers and prints what is delivered.
type listener struct {
	a        *app
	flags    *listenFlags
	verifier atomic.Pointer[hooks.Verifier]
	enough   chan struct{} // closed after as many as --once says

	mu       sync.Mutex // guards what follows, and that lines are whole
	seen     seen
	verified int
	refused  int
}

func newListener(a *app, f *listenFlags, v *hooks.Verifier) *listener {
	l := &listener{a: a, flags: f, enough: make(chan struct{}), seen: seen{ids: map[string]bool{}, missing: map[uint64]bool{}}}
	l.verifier.Store(v)
	return l
}

// received is one delivery, as --json prints it.
type received struct {
	Time     events.Time `json:"time"`
	Verified bool        `json:"verified"`
	Error    string      `json:"error,omitzero"` // why it did not verify, or could not be forwarded
	Status   int         `json:"status"`         // that it was answered

	ID       string `json:"id,omitzero"` // what follows is of those that verify
	Type     string `json:"type,omitzero"`
	Subject  string `json:"subject,omitzero"`
	Position string `json:"position,omitzero"`
	Sequence uint64 `json:"sequence,omitzero"`
	Replay   string `json:"replay,omitzero"`
	Repeat   bool   `json:"repeat,omitzero"`  // its id came before
	Missing  uint64 `json:"missing,omitzero"` // numbers before its own that have not come yet

	Headers http.Header `json:"headers,omitzero"` // with --print headers
	Body    string      `json:"body,omitzero"`    // with --print body
}

// ServeHTTP implements http.Handler.
func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	verifier := l.verifier.Load()
	if verifier.AnswerConsent(w, r) {
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, listenBodyBytes))
	got := &received{Time: events.At(time.Now())}
	var event *hooks.Event
	if err == nil {
		r.Body = io.NopCloser(bytes.NewReader(body))
		event, err = verifier.Read(r)
	}
	got.Status = hooks.Status(err)
	if err == nil {
		got.take(event)
		got.Status, err = l.answer(r, body)
	}
	if err != nil {
		got.Error = err.Error()
	}
	if l.flags.print == "headers" {
		got.Headers = r.Header
	}
	if l.flags.print == "body" {
		got.Body = string(body)
	}
	last := l.note(got)
	w.WriteHeader(got.Status)
	if last {
		close(l.enough)
	}
}

// answer is what a verified delivery is answered.
func (l *listener) answer(r *http.Request, body []byte) (status int, err error) {
	switch {
	case l.flags.forward != "":
		if status, err = forwardTo(r.Context(), l.flags.forward, r.Header, body); err != nil {
			return http.StatusBadGateway, err
		}
		return status, nil
	case l.flags.status != 0:
		return l.flags.status, nil
	}
	return http.StatusNoContent, nil
}

func (g *received) take(e *hooks.Event) {
	g.Verified, g.ID, g.Type, g.Subject = true, e.Attempt.ID, e.Type, e.Subject
	g.Position, g.Sequence, g.Replay = e.Position, e.Sequence, e.Extensions["replay"]
}

// note counts a delivery and prints it; last says that it is the last that is waited for.
func (l *listener) note(g *received) (last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g.Verified {
		l.verified++
		g.Repeat = l.seen.again(g.ID)
		full := l.seen.full
		g.Missing = l.seen.number(g.Sequence)
		if l.seen.full && !full {
			l.a.note("gaps are no longer counted: %d numbers are missing already", listenRemembers)
		}
	} else {
		l.refused++
	}
	if l.a.json {
		if line, err := events.Encode(g); err == nil {
			fmt.Fprintf(l.a.out, "%s\n", line)
		}
	} else {
		g.print(l.a.out)
	}
	return g.Verified && l.verified == l.flags.once
}

// print writes a line for people, and below it the part that was asked for.
func (g *received) print(w io.Writer) {
	words := []string{g.Time.String(), strconv.Itoa(g.Status)}
	if !g.Verified {
		words = append(words, "NOT VERIFIED: "+g.Error)
	} else {
		number := "#" + strconv.FormatUint(g.Sequence, 10)
		if g.Sequence == 0 {
			number = "replay " + g.Replay
		}
		words = append(words, number, strings.TrimPrefix(g.Type, "dev.keyledger."), g.Subject, g.ID, "verified")
		if g.Repeat {
			words = append(words, "(again)")
		}
		if g.Missing > 0 {
			words = append(words, fmt.Sprintf("(%d before it not here yet)", g.Missing))
		}
		if g.Error != "" {
			words = append(words, "("+g.Error+")")
		}
	}
	fmt.Fprintln(w, plain(strings.Join(words, "  ")))
	for _, name := range slices.Sorted(maps.Keys(g.Headers)) {
		fmt.Fprintln(w, plain("  "+name+": "+strings.Join(g.Headers[name], ", ")))
	}
	if g.Body != "" {
		fmt.Fprintln(w, plain("  "+g.Body))
	}
}

// announce says where it listens.
func (l *listener) announce(url string) {
	if l.a.json {
		if line, err := events.Encode(map[string]string{"listening": url}); err == nil {
			fmt.Fprintf(l.a.out, "%s\n", line)
		}
		return
	}
	fmt.Fprintf(l.a.out, "listening  %s\n", url)
}

// summary says what came.
func (l *listener) summary() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.a.note("%s", l.seen.summary(l.verified, l.refused))
}

// listenRemembers is how many ids, and how many numbers that did not come, are remembered.
const listenRemembers = 100_000

// seen is what came so far.
type seen struct {
	ids     map[string]bool
	next    uint64          // the number behind the highest that came; 0 before the first
	missing map[uint64]bool // numbers below next that did not come, from the first one on
	full    bool            // there were more of them than are remembered
}

// again says whether an id came before.
func (s *seen) again(id string) bool {
	if s.ids[id] {
		return true
	}
	if len(s.ids) < listenRemembers {
		s.ids[id] = true
	}
	return false
}

// number takes a sequence number in, 0 being none, and says how many before it did not come.
func (s *seen) number(n uint64) (missing uint64) {
	if n == 0 {
		return 0
	}
	if s.next == 0 {
		s.next = n
	}
	for ; s.next < n && !s.full && len(s.missing) < listenRemembers; s.next++ {
		s.missing[s.next] = true
	}
	s.full = s.full || s.next < n
	delete(s.missing, n)
	if n >= s.next { // the highest: all that are missing are before it
		s.next = n + 1
		return uint64(len(s.missing))
	}
	for m := range s.missing {
		if m < n {
			missing++
		}
	}
	return missing
}

func (s *seen) summary(verified, refused int) string {
	text := fmt.Sprintf("%d deliveries verified, %d not", verified, refused)
	if len(s.missing) > 0 {
		text += fmt.Sprintf("; %d of the numbers between are missing", len(s.missing))
	}
	return text
}
