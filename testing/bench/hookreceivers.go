package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	maxReceivers = 10_000
	// dueMark stands in a debit's reference before the moment it was due, in Unix
	// nanoseconds of dueDigits digits.
	dueMark, dueDigits = `"reference":"due `, 19
	timeMark           = `"time":"` // before the commit's time in a CloudEvent
)

// receivers are many webhook receivers on loopback, each on a port of its own. They answer
// at once, or, those that hang, never. They speak the little HTTP/1.1 that it takes, so
// that the machine is left to the sender.
type receivers struct {
	all     atomic.Int64 // webhooks taken whole
	samples []atomic.Pointer[hookSample]
	watch   atomic.Pointer[watched]
	inTime  atomic.Int64 // of what is watched
	bytes   atomic.Int64 // of the last body

	mu      sync.Mutex // guards what follows
	timed   int64
	fromDue *hdrhistogram.Histogram
	commits *hdrhistogram.Histogram
}

// watched says what receivers measure: what those from First on get, From to To, in Unix
// nanoseconds, and, if Time is set, how late. The first Hang of all never answer.
type watched struct {
	From  int64 `json:"from"`
	To    int64 `json:"to"`
	First int   `json:"first"`
	Hang  int   `json:"hang"`
	Time  bool  `json:"time"`
}

// hooksTook is what receivers took of what they were to watch: counted if it came within
// the time, its latency if it was due within it.
type hooksTook struct {
	All     int64 `json:"all"` // ever, by all of them
	Watched int64 `json:"watched"`
	Timed   int64 `json:"timed"`
	Bytes   int64 `json:"bytes"` // of the last body
	// Of when it was due, and of its commit, to the first byte, in nanoseconds.
	FromDue *hdrhistogram.Snapshot `json:"from_due"`
	Commits *hdrhistogram.Snapshot `json:"from_commit"`
}

// hookSample is a webhook as it came, and where.
type hookSample struct {
	URL    string      `json:"url"`
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// serveReceivers takes webhooks until ctx ends: "bench receivers".
func serveReceivers(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench receivers", flag.ContinueOnError)
	_ = flags.String("dir", "", "unused: every server has one")
	count := flags.Int("count", 1, "how many receivers")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *count < 1 || *count > maxReceivers {
		return fmt.Errorf("-count must be from 1 to %d", maxReceivers)
	}
	r := &receivers{samples: make([]atomic.Pointer[hookSample], *count), fromDue: newLatencies(), commits: newLatencies()}
	r.watch.Store(&watched{})
	urls := make([]string, *count)
	for i := range urls {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer listener.Close()
		urls[i] = "http://" + listener.Addr().String()
		go r.accept(listener, i)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: r.control(urls)}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	fmt.Printf("receivers ready http://%s\n", listener.Addr())
	if err := server.Serve(listener); ctx.Err() == nil {
		return err
	}
	return nil
}

// accept serves one receiver's connections until its listener is closed.
func (r *receivers) accept(listener net.Listener, i int) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			in := bufio.NewReaderSize(conn, 8<<10)
			for r.receive(conn, in, i) == nil {
			}
		}()
	}
}

// okAnswer is the answer to every webhook.
var okAnswer = []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

// receive takes one webhook and answers it.
func (r *receivers) receive(conn net.Conn, in *bufio.Reader, i int) error {
	if _, err := in.Peek(1); err != nil {
		return err
	}
	at, length := time.Now(), 0
	sample := r.samples[i].Load() == nil
	var head []byte
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if sample {
			head = append(head, line...)
		}
		if len(line) == len("\r\n") {
			break
		}
		if name, value, ok := bytes.Cut(line, []byte(": ")); ok && bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	body, err := in.Peek(length) // fails where it does not fit
	if err != nil {
		return err
	}
	if i < r.watch.Load().Hang {
		_, err := io.Copy(io.Discard, in) // until the sender gives up
		return errors.Join(err, io.EOF)
	}
	if sample {
		if err := r.keep(i, head, body); err != nil {
			return err
		}
	}
	r.count(i, at, body)
	if _, err := in.Discard(length); err != nil {
		return err
	}
	_, err = conn.Write(okAnswer)
	return err
}

// keep keeps a receiver's first webhook.
func (r *receivers) keep(i int, head, body []byte) error {
	request, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		return err
	}
	r.samples[i].CompareAndSwap(nil, &hookSample{URL: "http://" + request.Host, Header: request.Header, Body: bytes.Clone(body)})
	return nil
}

// count measures what one receiver got.
func (r *receivers) count(i int, at time.Time, body []byte) {
	r.all.Add(1)
	w := r.watch.Load()
	if i < w.First {
		return
	}
	r.bytes.Store(int64(len(body)))
	now := at.UnixNano()
	if now >= w.From && now < w.To {
		r.inTime.Add(1)
	}
	if !w.Time {
		return
	}
	due, committed := dueIn(body), committedIn(body)
	if due < w.From || due >= w.To {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timed++
	record(r.fromDue, now-due)
	record(r.commits, now-committed)
}

// record notes a latency in nanoseconds; one longer than is told apart as the longest.
func record(h *hdrhistogram.Histogram, nanos int64) {
	_ = h.RecordValue(min(max(nanos, 1), int64(time.Minute))) // within range
}

// importLatencies is a histogram as receivers sent it.
func importLatencies(s *hdrhistogram.Snapshot) *hdrhistogram.Histogram {
	if s == nil {
		return newLatencies()
	}
	return hdrhistogram.Import(s)
}

// dueIn is when the debit of a webhook was due, 0 if it does not say.
func dueIn(body []byte) int64 {
	_, rest, ok := bytes.Cut(body, []byte(dueMark))
	if !ok || len(rest) < dueDigits {
		return 0
	}
	due, _ := strconv.ParseInt(string(rest[:dueDigits]), 10, 64)
	return due
}

// committedIn is the time of a webhook's commit, in full milliseconds.
func committedIn(body []byte) int64 {
	_, rest, _ := bytes.Cut(body, []byte(timeMark))
	text, _, _ := bytes.Cut(rest, []byte(`"`))
	at, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil {
		return 0
	}
	return at.UnixNano()
}

// control is how the benchmark asks and tells.
func (r *receivers) control(urls []string) http.Handler {
	mux := http.NewServeMux()
	answer := func(path string, what func(*http.Request) any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, q *http.Request) { _ = json.NewEncoder(w).Encode(what(q)) })
	}
	answer("GET /urls", func(*http.Request) any { return urls })
	answer("GET /all", func(*http.Request) any { return r.all.Load() })
	answer("GET /samples", func(*http.Request) any {
		var list []*hookSample
		for i := range r.samples {
			if s := r.samples[i].Load(); s != nil {
				list = append(list, s)
			}
		}
		return list
	})
	answer("GET /took", func(*http.Request) any {
		r.mu.Lock()
		defer r.mu.Unlock()
		return &hooksTook{All: r.all.Load(), Watched: r.inTime.Load(), Timed: r.timed, Bytes: r.bytes.Load(),
			FromDue: r.fromDue.Export(), Commits: r.commits.Export()}
	})
	answer("GET /watch", func(q *http.Request) any {
		w := new(watched)
		err := json.Unmarshal([]byte(q.URL.Query().Get("what")), w)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.watch.Store(w)
		r.inTime.Store(0)
		r.timed = 0
		r.fromDue.Reset()
		r.commits.Reset()
		return err == nil
	})
	return mux
}

// hookSink is the process that receives, as the benchmark knows it.
type hookSink struct {
	*process
	urls []string
}

func startReceivers(ctx context.Context, dir string, count int) (*hookSink, error) {
	p, err := startSelf(ctx, "receivers", dir+"/receivers", []string{"GOGC=400"}, "-count", strconv.Itoa(count))
	if err != nil {
		return nil, err
	}
	s := &hookSink{process: p}
	if err := s.ask(ctx, "/urls", &s.urls); err != nil {
		return nil, fmt.Errorf("%w; %w", err, p.stop())
	}
	return s, nil
}

// ask asks for something.
func (s *hookSink) ask(ctx context.Context, path string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask the receivers: %w", err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		return fmt.Errorf("ask the receivers for %s: %w", path, err)
	}
	_, err = io.Copy(io.Discard, response.Body) // so that the connection is used again
	return err
}

// watch has them measure a time that begins after a pause.
func (s *hookSink) watch(ctx context.Context, after, measure time.Duration, w watched) (*watched, error) {
	from := time.Now().Add(after)
	w.From, w.To = from.UnixNano(), from.Add(measure).UnixNano()
	text, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	var ok bool
	if err := s.ask(ctx, "/watch?what="+url.QueryEscape(string(text)), &ok); err != nil || !ok {
		return nil, fmt.Errorf("the receivers do not watch: %w", err)
	}
	return &w, nil
}

func (s *hookSink) took(ctx context.Context) (*hooksTook, error) {
	t := new(hooksTook)
	return t, s.ask(ctx, "/took", t)
}

func (s *hookSink) all(ctx context.Context) (n int64, err error) {
	return n, s.ask(ctx, "/all", &n)
}
