package faults

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/webhooks"
)

// request is one webhook request as it came, and how it was answered.
type request struct {
	path                     string
	id, timestamp, signature string // its webhook- headers
	body                     []byte
	at, answered             time.Time // answered zero: not at all
	status                   int       // 0 without an answer
}

// listing is what delivery.list says of one endpoint.
type listing struct {
	pending []row  // those that are listed
	count   uint64 // of all that are pending; what is not listed has the highest numbers
	dead    []row
}

// row is what of a row of delivery.list says which delivery it is.
type row struct {
	Event    string  `json:"event"`
	Endpoint string  `json:"endpoint"`
	Sequence string  `json:"sequence"`
	Replay   *string `json:"replay"` // it is a replay's, and no owed one
}

// deliveries is the history of a keyledger that delivered, was killed and delivered on.
type deliveries struct {
	owing    map[string]*owing
	requests []request // as they came
	lists    map[string]listing
	attempts []webhooks.Attempt // those whose record was kept
	kills    []time.Time
	tries    int // that a delivery has
	// within is how long before a kill an answer can be forgotten: a second, and the time
	// that a checkpoint takes to be stored.
	within time.Duration
	// notice is how long after its commit the dispatcher can go on as before an event.
	notice time.Duration
}

// delivery is what happened with one owed event.
type delivery struct {
	requests  []*request
	delivered time.Time // answered 2xx for the first time
	last      *request  // that was answered so, the newest so far
	pending   bool
	dead      bool // listed so
}

// gaveUp says whether it was tried for the last time before a moment.
func (d *delivery) gaveUp(tries int, before time.Time) bool {
	n := 0
	for _, r := range d.requests {
		if !r.answered.IsZero() && !r.answered.After(before) {
			n++
		}
	}
	return n >= tries
}

// check compares who is owed what with what came, and with what keyledger says of it. Each
// complaint begins with its verdict.
func (h *deliveries) check() (complaints []string) {
	say := func(verdict, format string, args ...any) {
		complaints = append(complaints, verdict+": "+fmt.Sprintf(format, args...))
	}
	happened := map[string][]delivery{}
	for id, o := range h.owing {
		happened[id] = make([]delivery, len(o.list))
	}
	for i := range h.requests {
		r := &h.requests[i]
		o := h.to(r.path)
		if o == nil {
			say("nobody's", "a request to %s, which no endpoint has", r.path)
			continue
		}
		if verdict := o.signed(r, h.notice); verdict != "" {
			say(verdict, "%s to %s", r.id, o.endpoint.ID)
		}
		h.checkRequest(r, o, happened[o.endpoint.ID], say)
	}
	h.checkRecords(say)
	for _, id := range slices.Sorted(maps.Keys(h.owing)) {
		o := h.owing[id]
		h.checkList(o, happened[id], say)
		h.checkOwed(o, happened[id], say)
		if o.endpoint.Ordering == "key" {
			h.checkOrder(o, happened[id], say)
		}
		h.checkReplays(o, happened[id], say)
	}
	return complaints
}

// verdicts are all with which a complaint can begin.
var hookVerdicts = []string{
	"nobody's", "signature", "old secret", "not owed", "number", "two events", "other bytes", "removed", "skipped", "again", "too often",
	"no request", "list", "dead early", "lost", "gap", "order", "not replayed",
}

// complain takes a complaint.
type complain func(verdict, format string, args ...any)

// to is the endpoint that has a path.
func (h *deliveries) to(path string) *owing {
	for _, o := range h.owing {
		if slices.Contains(o.paths, path) {
			return o
		}
	}
	return nil
}

// signed verifies every signature of a request (Standard Webhooks) and says what is wrong.
func (o *owing) signed(r *request, notice time.Duration) (verdict string) {
	seconds, err := strconv.ParseInt(r.timestamp, 10, 64)
	if err != nil || r.signature == "" {
		return "signature"
	}
	for _, one := range strings.Fields(r.signature) {
		version, text, _ := strings.Cut(one, ",")
		sum, err := base64.StdEncoding.DecodeString(text)
		at := slices.IndexFunc(o.keys, func(k signing) bool {
			return err == nil && k.version == version && k.verifies(r.id+"."+r.timestamp+"."+string(r.body), sum)
		})
		if at < 0 {
			return "signature"
		}
		if until := o.keys[at].until; !until.IsZero() && time.Unix(seconds, 0).After(until.Add(notice)) {
			return "old secret"
		}
	}
	return ""
}

func (k signing) verifies(text string, sum []byte) bool {
	if k.version == "v1a" {
		return ed25519.Verify(ed25519.NewKeyFromSeed(k.key).Public().(ed25519.PublicKey), []byte(text), sum)
	}
	mac := hmac.New(sha256.New, k.key)
	mac.Write([]byte(text))
	return hmac.Equal(mac.Sum(nil), sum)
}

// checkRequest says whether a request is one that was owed, and puts it where it belongs.
func (h *deliveries) checkRequest(r *request, o *owing, happened []delivery, say complain) {
	var body struct{ ID, Sequence, Replay string }
	err := json.Unmarshal(r.body, &body)
	if i := slices.IndexFunc(o.replays, func(p replay) bool { return p.id == body.Replay }); err == nil && i >= 0 && body.Sequence == "" {
		if o.replays[i].sends[body.ID] == nil || body.ID != r.id {
			say("not owed", "%s to %s for %s", r.id, o.endpoint.ID, body.Replay)
		} else if s := o.replays[i].sends[body.ID]; r.status != 0 {
			s.tries++
			s.came = s.came || r.status/100 == 2 || s.tries >= h.tries
		}
		return
	}
	at, ok := o.index[r.id]
	if err != nil || !ok || body.ID != r.id {
		say("not owed", "%s to %s: %.200s", r.id, o.endpoint.ID, r.body)
		return
	}
	if want := fmt.Sprintf("%020d", at+1); body.Sequence != want {
		say("number", "%s to %s has %s, want %s", r.id, o.endpoint.ID, body.Sequence, want)
		h.checkNumber(r, o, body.Sequence, say)
		return
	}
	w, d := &o.list[at], &happened[at]
	if sha256.Sum256(r.body) != w.sum {
		say("other bytes", "%s to %s: %.200s", r.id, o.endpoint.ID, r.body)
	}
	if !o.removed.IsZero() && r.at.After(o.removed.Add(h.notice)) {
		say("removed", "%s to %s came %s after its removal", r.id, o.endpoint.ID, r.at.Sub(o.removed))
	}
	if again := o.asksFor(w, r.at); !again {
		if !w.skipped.IsZero() && r.at.After(w.skipped.Add(h.notice)) {
			say("skipped", "%s to %s came %s after it was jumped over", r.id, o.endpoint.ID, r.at.Sub(w.skipped))
		}
		if d.last != nil && !h.forgot(d.last, r.at) {
			say("again", "%s, number %d, to %s came at %s, and was delivered %s before", r.id, at+1, o.endpoint.ID, r.at.Format(time.StampMilli), r.at.Sub(d.last.answered))
		}
	}
	d.requests = append(d.requests, r)
	if r.status/100 == 2 && (d.delivered.IsZero() || r.answered.Before(d.delivered)) {
		d.delivered = r.answered
	}
	if r.status/100 == 2 {
		d.last = r
	}
}

// checkNumber says whether a request's number came with another event too.
func (h *deliveries) checkNumber(r *request, o *owing, number string, say complain) {
	for i := range h.requests {
		var other struct{ Sequence string }
		if q := &h.requests[i]; q.id != r.id && slices.Contains(o.paths, q.path) && json.Unmarshal(q.body, &other) == nil && other.Sequence == number {
			say("two events", "%s of %s is %s and %s", number, o.endpoint.ID, r.id, q.id)
			return
		}
	}
}

// asksFor says whether a replay had been asked for that sends an event.
func (o *owing) asksFor(w *owed, by time.Time) bool {
	return slices.ContainsFunc(o.replays, func(p replay) bool { return p.sends[w.id] != nil && !p.asked.After(by) })
}

// linger is how long after a kill a request can still come out of the system's buffers.
const linger = 500 * time.Millisecond

// forgot says whether a kill between a request and another may have made keyledger forget
// how the one was answered.
func (h *deliveries) forgot(r *request, before time.Time) bool {
	return slices.ContainsFunc(h.kills, func(k time.Time) bool {
		return r.at.Before(k.Add(linger)) && before.After(k) && r.answered.After(k.Add(-h.within))
	})
}

// remembered is how many tries of a delivery were answered so long before a kill that none
// can have made keyledger forget it.
func (h *deliveries) remembered(d *delivery) (n int) {
	for _, r := range d.requests {
		if !r.answered.IsZero() && !slices.ContainsFunc(h.kills, func(k time.Time) bool {
			return r.answered.After(k.Add(-h.within)) && !r.answered.After(k.Add(h.within))
		}) {
			n++
		}
	}
	return n
}

// checkRecords says whether each record of an attempt is of a request that came.
func (h *deliveries) checkRecords(say complain) {
	type answer struct {
		endpoint, id string
		status       int
	}
	came := map[answer]int{}
	for i := range h.requests {
		r := &h.requests[i]
		if o := h.to(r.path); o != nil {
			came[answer{o.endpoint.ID, r.id, r.status}]++
		}
	}
	for _, a := range h.attempts {
		if a.StatusCode == nil {
			continue // the receiver may not have noticed it
		}
		key := answer{a.Endpoint, a.Event, *a.StatusCode}
		if came[key]--; came[key] < 0 {
			say("no request", "attempt %d of %s to %s was answered %d, says its record", a.Attempt, a.Event, a.Endpoint, *a.StatusCode)
		}
	}
}

// checkList says whether what is listed is owed and fits what came.
func (h *deliveries) checkList(o *owing, happened []delivery, say complain) {
	l := h.lists[o.endpoint.ID]
	entry := func(d *row) (*delivery, error) {
		at, ok := o.index[d.Event]
		if !ok || d.Sequence != fmt.Sprintf("%020d", at+1) || d.Endpoint != o.endpoint.ID {
			return nil, errors.New("is not owed so")
		}
		return &happened[at], nil
	}
	for i := range l.pending {
		d, err := entry(&l.pending[i])
		if err != nil || d.pending {
			say("list", "%+v is pending, twice or %v", l.pending[i], err)
			continue
		}
		d.pending = true
	}
	rest := int64(l.count) - int64(len(l.pending))
	for i := len(happened) - 1; i >= 0 && rest > 0; i-- {
		if !happened[i].pending {
			happened[i].pending = true
			rest--
		}
	}
	if rest != 0 {
		say("list", "%d are pending for %s, %d are listed, and it is owed %d", l.count, o.endpoint.ID, len(l.pending), len(happened))
	}
	for i := range l.dead {
		d, err := entry(&l.dead[i])
		if err != nil || d.pending || d.dead {
			say("list", "%+v is dead, and pending too, or twice, or %v", l.dead[i], err)
			continue
		}
		d.dead = true
		if len(d.requests) < h.tries {
			say("dead early", "%s is dead after %d requests, not %d", l.dead[i].Event, len(d.requests), h.tries)
		}
	}
}

// checkOwed says whether each owed event is delivered, pending, dead, or was jumped over.
func (h *deliveries) checkOwed(o *owing, happened []delivery, say complain) {
	if !o.removed.IsZero() {
		return // owed nothing any more
	}
	end := time.Unix(1<<40, 0)
	seen := 0 // the highest number that came
	for i := range happened {
		if len(happened[i].requests) > 0 {
			seen = i + 1
		}
	}
	for i := range happened {
		d, w := &happened[i], &o.list[i]
		if n := h.remembered(d); n > h.tries*(1+len(o.replays)) {
			say("too often", "%s, number %d, came %d times to %s, beside what kills made it forget", w.id, i+1, n, o.endpoint.ID)
		}
		if !d.delivered.IsZero() || d.pending || d.dead || !w.skipped.IsZero() || d.gaveUp(h.tries, end) {
			continue
		}
		verdict := "lost"
		if i < seen { // the receiver knows by itself
			verdict = "gap"
		}
		say(verdict, "%s, number %d of %d, to %s is not delivered, pending, dead or jumped over; it came %d times", w.id, i+1, len(happened), o.endpoint.ID, len(d.requests))
	}
}

// checkOrder says whether an event came only once all before it in its group were settled.
func (h *deliveries) checkOrder(o *owing, happened []delivery, say complain) {
	groups := map[string][]int{}
	for i, w := range o.list {
		groups[w.group] = append(groups[w.group], i)
	}
	for _, group := range groups {
		for n, i := range group[1:] {
			for _, r := range happened[i].requests {
				before, w := &happened[group[n]], &o.list[group[n]]
				settled := !before.delivered.IsZero() && !before.delivered.After(r.at) || before.gaveUp(h.tries, r.at) ||
					!w.skipped.IsZero() && !w.skipped.After(r.at)
				if !settled && !o.asksFor(&o.list[i], r.at) {
					say("order", "number %d of %s came to %s before %d was settled", i+1, o.list[i].group, o.endpoint.ID, group[n]+1)
					break
				}
			}
		}
	}
}

// checkReplays says whether what replays send came again, and with its first bytes.
func (h *deliveries) checkReplays(o *owing, happened []delivery, say complain) {
	if !o.removed.IsZero() || o.endpoint.Status != events.Active { // then they go on later
		return
	}
	for _, p := range o.replays {
		for id, s := range p.sends {
			came := s.came || s.skipped
			if at, owed := o.index[id]; owed {
				came = came || happened[at].pending || slices.ContainsFunc(happened[at].requests, func(r *request) bool { return r.answered.After(p.asked) })
			}
			if !came {
				say("not replayed", "%s to %s, for %s", id, o.endpoint.ID, p.id)
			}
		}
	}
}
