package projections

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// Kinds of work on the whole log.
const (
	workRebuild = "rebuild"
	workVerify  = "verify"
)

// Steps of work; of a verification the names of what it compares follow.
const (
	stepLog      = "log"
	stepAccounts = "accounts"
)

// States of work.
const (
	workRunning = "running"
	workDone    = "done"
	workFailed  = "failed"
)

// workKept is how many works are kept to be told of, the newest among them: whoever waits
// for one looks every now and then, and others may have begun since.
const workKept = 8

// notRebuilt says of what else follows the log how it is made again.
var notRebuilt = map[string]string{
	"feed":    "stop keyledger and move the folder of its stream away; the next start derives it from the log",
	"kv":      "rebuild keys, balances or accounts, of which the buckets are made; what differs in the buckets is written then",
	"archive": "keyledger projections verify finds what is wrong in it and has it made again from the log",
}

// Work is work on the whole log beside the live projections, of which there is one at a
// time, as projection.list shows it.
type Work struct {
	ID          ulid.ULID   `json:"id"`     // no other work has it, also after a restart
	Number      uint64      `json:"number"` // counts from this program's start
	Kind        string      `json:"kind"`   // rebuild, verify
	Projections []string    `json:"projections"`
	State       string      `json:"state"` // running, done, failed
	Step        string      `json:"step"`  // log, accounts, or what else is compared: archive, feed, …
	Done        uint64      `json:"done"`  // of the step: events of the log, accounts, or what it has
	Total       uint64      `json:"total"` // 0: not known
	Position    string      `json:"position"`
	End         string      `json:"end"` // where it has to get, and that moves on
	StartedAt   events.Time `json:"started_at"`
	EndedAt     events.Time `json:"ended_at"`
	Failure     string      `json:"failure,omitempty"`
	Findings    []Finding   `json:"findings,omitempty"` // of a verification that is done
}

// works is what a Runner knows of its work.
type works struct {
	mu    sync.Mutex    // guards last, kept, next and ended; taken behind the Runner's
	last  *Work         // that runs or ran last, nil for none
	kept  []*Work       // the newest, last among them, oldest first; workKept at the most
	ended chan struct{} // closes when it has ended
	next  *job          // that is to be run, nil for none
	wake  chan struct{}
	after func(time.Duration) <-chan time.Time // the clock of rests
}

// Rebuild makes projections again from the log's beginning, beside the ones there are: they
// answer until the new ones take their place, at the same position, between two commits.
// It takes the memory of both meanwhile. It returns at once; Run does the work, and Work
// and Status tell of it. Nothing durable changes: after a stop in the middle everything is
// as if it had not begun. Its errors are InvalidArgument for a name that there is not and
// FailedPrecondition while other work is done.
func (r *Runner) Rebuild(names ...string) (*Work, *events.Error) {
	return r.submit(workRebuild, names, nil)
}

// Work returns what work is done or was done last, nil for none since the start.
func (r *Runner) Work() *Work {
	r.works.mu.Lock()
	defer r.works.mu.Unlock()
	return r.works.copy()
}

// Works returns the newest works since the start, at most 8, the newest first.
func (r *Runner) Works() []Work {
	r.works.mu.Lock()
	defer r.works.mu.Unlock()
	out := make([]Work, 0, len(r.works.kept))
	for _, w := range slices.Backward(r.works.kept) {
		out = append(out, *w)
	}
	return out
}

func (w *works) copy() *Work {
	if w.last == nil {
		return nil
	}
	out := *w.last
	return &out
}

// progress says how far a projection's rebuild is, "" where there is none.
func (w *works) progress(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil || w.last.Kind != workRebuild || w.last.State != workRunning || !slices.Contains(w.last.Projections, name) {
		return ""
	}
	return w.last.Position + " of " + w.last.End
}

// submit hands work to Run.
func (r *Runner) submit(kind string, names []string, compare func(context.Context, *job) error) (*Work, *events.Error) {
	j := &job{r: r, compare: compare, chain: store.Chain{Partition: r.Applied().Partition}}
	if len(names) == 0 {
		return nil, events.Errorf(events.InvalidArgument, "names must name a projection: %s", strings.Join(r.names(), ", "))
	}
	for _, name := range names {
		i := slices.Index(r.names(), name)
		switch {
		case i < 0 && kind == workRebuild && notRebuilt[name] != "":
			return nil, events.Errorf(events.InvalidArgument, "%s is not rebuilt by this: %s", name, notRebuilt[name])
		case i < 0:
			return nil, events.Errorf(events.InvalidArgument, "there is no projection %q; there are %s", name, strings.Join(r.names(), ", "))
		case slices.ContainsFunc(j.fresh, func(f *fresh) bool { return f.slot == i }):
			continue
		}
		j.fresh = append(j.fresh, &fresh{Projection: r.slots[i].how.New(), slot: i})
	}
	w := &r.works
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last != nil && w.last.State == workRunning {
		return nil, events.Errorf(events.FailedPrecondition, "a %s of %s is running, at %s of %s; wait for its end",
			w.last.Kind, strings.Join(w.last.Projections, ", "), w.last.Position, w.last.End).With("number", w.last.Number)
	}
	end := r.tail.End()
	j.work = &Work{ID: ulid.Make(), Number: 1, Kind: kind, State: workRunning, Step: stepLog, StartedAt: events.At(time.Now()), Total: end.Ordinal,
		Position: j.chain.Position().String(), End: end.Position().String()}
	for _, f := range j.fresh {
		j.work.Projections = append(j.work.Projections, r.slots[f.slot].name)
	}
	if w.last != nil {
		j.work.Number = w.last.Number + 1
	}
	w.last, w.next, w.ended = j.work, j, make(chan struct{})
	w.kept = append(w.kept[max(0, len(w.kept)+1-workKept):], w.last)
	signal(w.wake)
	return w.copy(), nil
}

// names are those of all projections.
func (r *Runner) names() []string {
	names := make([]string, len(r.slots))
	for i := range r.slots {
		names[i] = r.slots[i].name
	}
	return names
}
