package webhooks

import (
	"context"
	"errors"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// often makes checkpoints frequent.
func often(c *Config) { c.CheckpointEvery = 5 * time.Millisecond }

// crash ends a dispatcher without its last checkpoint: its connection is gone.
func (u *run) crash() {
	u.t.Helper()
	u.cfg.JS.Conn().Close()
	if err := u.end(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		u.t.Fatal(err)
	}
}

// saved reads the last checkpoint.
func (r *rig) saved() *checkpoint {
	r.t.Helper()
	all := r.stream(store.StreamLanes(0))
	c, err := decodeCheckpoint(all[len(all)-1])
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// After an orderly stop the next start goes on where it was: nothing is lost, nothing
// comes twice, and what waited for its next try waits on.
func TestRestart(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, func(_ http.ResponseWriter, got *received, tries int) int {
		if got.sequence <= "00000000000000000010" && tries < 3 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	held := newReceiver(t, func(w http.ResponseWriter, got *received, tries int) int {
		if got.sequence == "00000000000000000001" && tries == 1 {
			w.Header().Set("Retry-After", "3600")
			return http.StatusTooManyRequests
		}
		return http.StatusOK
	})
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	r.add("endpoint_2", held)
	late := newReceiver(t, nil)
	paused := r.add("endpoint_3", late)
	r.commit(about(paused, events.Paused))
	d := r.start(r.onClock())
	r.commit(debits(100)...)
	to.requests(100)
	d.waiting("endpoint_1", 10)
	d.waiting("endpoint_2", 1)
	started := len(held.list())
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	if c := r.saved(); len(c.Lanes) != 3 || len(c.Lanes[0].Open) != 10 || c.Lanes[1].Held == 0 || c.Lanes[2].Cursor >= c.Feed {
		t.Errorf("checkpoint %+v", c)
	}
	r.commit(debits(20)...)

	d = r.start(r.onClock())
	to.requests(120) // the 20 new ones, and nothing again
	d.waiting("endpoint_1", 10)
	d.see("as before", func() bool {
		l := d.lanes["endpoint_1"].waiting[0]
		return l.tries == 1 && l.status == 500 && l.first > 0 && l.next.Equal(r.clock.now().Add(5*time.Second)) &&
			len(d.lanes["endpoint_2"].open) == 1 && d.lanes["endpoint_3"].pending() == 120
	})
	r.clock.advance(5 * time.Second)
	to.requests(130)
	d.waiting("endpoint_1", 10)
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	d = r.start(r.onClock())
	d.waiting("endpoint_1", 10)
	r.clock.advance(5 * time.Minute)
	to.requests(140)
	if n := len(held.list()); n != started {
		t.Errorf("%d requests within the pause", n-started)
	}
	r.clock.advance(time.Hour)
	d.see("the held one is done", func() bool { return d.lanes["endpoint_1"].pending()+d.lanes["endpoint_2"].pending() == 0 })
	r.commit(about(paused, events.Active))
	d.idle()
	for id, at := range map[string]*receiver{"endpoint_1": to, "endpoint_2": held, "endpoint_3": late} {
		r.checkDelivered(at, id)
	}
	if n, m, o := len(to.list()), len(held.list()), len(late.list()); n != 120+20 || m != 120+1 || o != 120 {
		t.Errorf("%d, %d and %d requests, want 140, 121 and 120", n, m, o)
	}
}

// After a crash what was settled since the last checkpoint is sent again, and no more.
func TestCrash(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, nil)
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	d := r.start(r.onClock())
	r.commit(debits(30)...)
	d.idle()
	r.clock.advance(DefaultCheckpointEvery)
	r.wantSaved(30)
	r.commit(debits(20)...)
	d.idle()
	d.crash()
	d = r.start(r.onClock())
	d.idle()
	r.checkDelivered(to, "endpoint_1")
	times := map[string]int{}
	for _, got := range to.list() {
		times[got.sequence]++
	}
	for i := 1; i <= 50; i++ {
		want := 1
		if i > 30 {
			want = 2
		}
		if n := times[numberText(uint64(i))]; n != want {
			t.Errorf("number %d came %d times, want %d", i, n, want)
		}
	}
}

// wantSaved waits until a checkpoint has everything settled up to so many deliveries of
// the only endpoint.
func (r *rig) wantSaved(n uint64) {
	r.t.Helper()
	watch, err := r.js.OrderedConsumer(r.t.Context(), store.StreamLanes(0), jetstream.OrderedConsumerConfig{})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	messages, err := watch.Messages()
	if err != nil {
		r.t.Fatal(err)
	}
	defer messages.Stop()
	registered := r.chain.Ordinal - n
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			r.t.Fatal(err)
		}
		c, err := decodeCheckpoint(msg.Data())
		if err != nil {
			r.t.Fatal(err)
		}
		if len(c.Lanes) == 0 && c.Feed >= registered+n {
			return
		}
	}
}

// Two dispatchers cannot both move the cursors: the later one has them from its first
// checkpoint on, and the former stops at its next.
func TestSecondDispatcherFencesTheFirst(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, nil)
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	first := r.start(often)
	r.commit(debits(10)...)
	first.idle()
	second := r.start(often)
	c := r.commit(debits(10)...)
	if err := first.result(); !errors.Is(err, ErrFenced) {
		t.Errorf("the first dispatcher ended with %v", err)
	}
	second.wait(c.Sequence)
	second.idle()
	if err := second.end(); err != nil {
		t.Errorf("the second dispatcher ended with %v", err)
	}
	r.checkDelivered(to, "endpoint_1")
	third := r.start()
	third.idle()
	if s := third.Stats(); s.Delivered != 0 {
		t.Errorf("after an orderly stop %d deliveries came again", s.Delivered)
	}
}

// Where a checkpoint has seen more than the log holds, or something else, nothing is
// sent.
func TestCheckpointBeyondTheLog(t *testing.T) {
	for name, change := range map[string]func(c *checkpoint){
		"beyond the end": func(c *checkpoint) { c.Sequence++; c.Feed += 3 },
		"more events":    func(c *checkpoint) { c.Feed += 6 },
		"another commit": func(c *checkpoint) { c.Hash[7]++ },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			to := newReceiver(t, nil)
			r.commit(opened("acme"))
			r.add("endpoint_1", to)
			r.commit(debits(5)...)
			c := &checkpoint{Writer: [16]byte{1}, Sequence: r.chain.Sequence, Hash: r.chain.Hash, Feed: r.chain.Ordinal - 5}
			change(c)
			if _, err := r.js.Publish(t.Context(), store.SubjectLanes(0), c.encode(checkpointBytesMax)); err != nil {
				t.Fatal(err)
			}
			if err := r.launch().result(); !errors.Is(err, ErrLoss) {
				t.Errorf("ended with %v, want a loss", err)
			}
			if n := len(to.list()); n != 0 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func TestWitness(t *testing.T) {
	r := newRig(t)
	if sequence, _, err := Witness(t.Context(), r.js, 0); sequence != 0 || err != nil {
		t.Errorf("without a checkpoint: %d, %v", sequence, err)
	}
	to := newReceiver(t, nil)
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	d := r.start()
	r.commit(debits(1)...)
	d.idle()
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	if sequence, hash, err := Witness(t.Context(), r.js, 0); sequence != r.chain.Sequence || hash != r.chain.Hash || err != nil {
		t.Errorf("%d %s, %v, want %d %s", sequence, hash, err, r.chain.Sequence, r.chain.Hash)
	}
	if err := r.js.DeleteStream(t.Context(), store.StreamLanes(0)); err != nil {
		t.Fatal(err)
	}
	if sequence, _, err := Witness(t.Context(), r.js, 0); sequence != 0 || err != nil {
		t.Errorf("without a stream: %d, %v", sequence, err)
	}
}

// A checkpoint that cannot be read stops the start: to begin anew would send everything
// again.
func TestUnreadableCheckpoint(t *testing.T) {
	for name, data := range map[string][]byte{"newer version": {2, 0, 0}, "cut short": {1, 0, 0}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			if _, err := r.js.Publish(t.Context(), store.SubjectLanes(0), data); err != nil {
				t.Fatal(err)
			}
			if err := r.launch().result(); err == nil {
				t.Error("started")
			}
		})
	}
}

// A dispatcher that is stopped before it has read the whole log knows less than the last
// checkpoint, and leaves that as it is.
func TestStopWhileReadingTheLog(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, nil)
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	d := r.start()
	r.commit(debits(10)...)
	d.idle()
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	before := *r.saved()
	dir := t.TempDir()
	d = r.launch(func(c *Config) {
		c.Dir = dir
		c.Tail = store.NewTail(&stuckLog{Log: r.log, at: r.chain.Sequence}, 0)
		c.Tail.Reset(r.chain)
	})
	d.see("read", func() bool { return d.read.Sequence == r.chain.Sequence-1 })
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("saved %v, %v", files, err)
	}
	after := *r.saved()
	after.Writer = before.Writer
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the checkpoint changed (-before +after):\n%s", diff)
	}
}

// stuckLog hangs at one message.
type stuckLog struct {
	store.Log
	at uint64
}

func (l *stuckLog) Read(ctx context.Context, from, to uint64, f func(uint64, []byte) error) error {
	if err := l.Log.Read(ctx, from, min(to, l.at-1), f); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// unsure loses the acknowledgements of checkpoints, or the checkpoints themselves.
type unsure struct {
	jetstream.JetStream
	calls atomic.Int64
	lose  func(call int64) (store, ack bool)
}

func (u *unsure) PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	loseIt, loseAck := u.lose(u.calls.Add(1))
	if loseIt {
		return nil, nats.ErrTimeout
	}
	ack, err := u.JetStream.PublishMsg(ctx, msg, opts...)
	if loseAck {
		return nil, nats.ErrTimeout
	}
	return ack, err
}

// Both failures of a checkpoint's write, not stored, and stored but reported failed, are
// survived, in every order, and are no fence.
func TestUnsureCheckpoints(t *testing.T) {
	r := newRig(t)
	rng := random(t)
	fate := make([]int, 10_000)
	for i := range fate {
		fate[i] = rng.IntN(3)
	}
	to := newReceiver(t, nil)
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	js := &unsure{lose: func(call int64) (bool, bool) {
		f := fate[call]
		return f == 1 && call < 30, f == 2 && call < 30
	}}
	d := r.launch(often, func(c *Config) {
		js.JetStream, c.JS = c.JS, js
		c.Timer = func(time.Time) (<-chan time.Time, func()) { // all waits are short
			timer := time.NewTimer(5 * time.Millisecond)
			return timer.C, func() { timer.Stop() }
		}
	})
	for js.calls.Load() < 30 {
		c := r.commit(debits(3)...)
		d.wait(c.Sequence)
		d.idle()
	}
	d.stop()
	if err := d.result(); err != nil {
		t.Fatal(err)
	}
	r.checkDelivered(to, "endpoint_1")
	n := len(to.list())
	d = r.start()
	d.idle()
	r.checkDelivered(to, "endpoint_1")
	if again := len(to.list()) - n; again > 0 {
		t.Errorf("%d deliveries came again after an orderly stop", again)
	}
}

// A checkpoint that could not be written is written later, even if nothing else happens.
func TestFailedCheckpointIsMadeUpFor(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, nil)
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	var losing atomic.Bool
	lost := make(chan struct{}, 10_000)
	js := &unsure{lose: func(int64) (bool, bool) {
		if losing.Load() {
			lost <- struct{}{}
		}
		return losing.Load(), false
	}}
	d := r.start(often, func(c *Config) { js.JetStream, c.JS = c.JS, js })
	losing.Store(true)
	r.commit(debits(10)...)
	d.idle()
	for range len(lost) + 2 { // nothing changes any more, and it is tried again
		select {
		case <-lost:
		case <-time.After(patience):
			t.Fatal("the checkpoint is not tried again")
		}
	}
	losing.Store(false)
	r.wantSaved(10)
	d.crash()
	d = r.start(r.onClock())
	d.idle()
	if n := len(to.list()); n != 10 {
		t.Errorf("%d requests, want 10", n)
	}
}

// faultyLog spoils one reading of a range.
type faultyLog struct {
	store.Log
	calls atomic.Int64
	spoil func(call int64, data []byte) ([]byte, error)
}

func (l *faultyLog) Read(ctx context.Context, from, to uint64, f func(uint64, []byte) error) error {
	call := l.calls.Add(1)
	return l.Log.Read(ctx, from, to, func(sequence uint64, data []byte) error {
		data, err := l.spoil(call, data)
		if err != nil {
			return err
		}
		return f(sequence, data)
	})
}

// A log that cannot be read for a moment is read on; one that is damaged is fatal.
func TestLogTrouble(t *testing.T) {
	r := newRig(t)
	to := newReceiver(t, nil)
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	r.commit(debits(20)...)
	with := func(spoil func(int64, []byte) ([]byte, error)) func(*Config) {
		return func(c *Config) {
			c.Tail = store.NewTail(&faultyLog{Log: r.log, spoil: spoil}, 0)
			c.Tail.Reset(r.chain)
			c.Timer = func(time.Time) (<-chan time.Time, func()) { return time.After(time.Millisecond), func() {} }
		}
	}
	for from := range int64(2) { // at the first look, and once it is followed
		d := r.launch(with(func(call int64, data []byte) ([]byte, error) {
			if call > from {
				data[len(data)/2]++
			}
			return data, nil
		}))
		var damage *store.DamageError
		if err := d.result(); !errors.As(err, &damage) {
			t.Errorf("on a damaged log: %v", err)
		}
	}
	d := r.start(with(func(call int64, data []byte) ([]byte, error) {
		if call%3 != 0 {
			return nil, nats.ErrTimeout
		}
		return data, nil
	}))
	to.requests(20)
	d.idle()
	if n := len(to.list()); n != 20 {
		t.Errorf("%d requests, want 20", n)
	}
	r.checkDelivered(to, "endpoint_1")
}
