package projections

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// opened is views of a log that start from the newest checkpoint in a folder and make one
// when they are told. They are not run; catchUp applies.
type opened struct {
	*Views
	t   testing.TB
	log bytes.Buffer // what they logged
}

func open(t testing.TB, tail *store.Tail, dir string) *opened {
	o := &opened{t: t}
	o.Views = NewViews(tail, 0, slog.New(slog.NewTextHandler(&o.log, nil)))
	o.Checkpoints(CheckpointConfig{Dir: dir, Every: 1, Pause: time.Nanosecond})
	o.saving.turn = 1 // an account
	o.Restore(context.Background())
	return o
}

// catchUp applies the log up to a sequence.
func (o *opened) catchUp(sequence uint64) {
	o.t.Helper()
	chain := o.applied
	err := store.ReadChecked(context.Background(), o.tail.Log(), &chain, sequence, func(c *store.Commit) error {
		o.apply(c)
		return nil
	})
	if err != nil {
		o.t.Fatal(err)
	}
}

// save makes a checkpoint.
func (o *opened) save() {
	o.t.Helper()
	if err := o.checkpoint(context.Background()); err != nil {
		o.t.Fatal(err)
	}
}

// loadAll does the loader's work.
func (o *opened) loadAll() {
	for o.unread != nil && !o.loadSome() {
	}
}

// sameSaved compares what two Views hold of every account, loaded or not.
func sameSaved(t testing.TB, want, got *Views) {
	t.Helper()
	if a, b := strings.Join(want.known, " "), strings.Join(got.known, " "); a != b || want.applied != got.applied {
		t.Errorf("accounts up to %s are %s, want up to %s %s", got.applied.Position(), b, want.applied.Position(), a)
		return
	}
	for _, name := range want.known {
		for i := range want.slots {
			a, b := want.appendSaved(&want.slots[i], name, nil), got.appendSaved(&got.slots[i], name, nil)
			if !bytes.Equal(a, b) {
				t.Errorf("%s of %s differ:\n%x\n%x", want.slots[i].Name(), name, a, b)
			}
		}
	}
}

// TestViewsFromACheckpoint: a checkpoint that is made while commits are applied, and the
// log behind it, give what the whole log gives, over several generations, however much of
// the one before was loaded.
func TestViewsFromACheckpoint(t *testing.T) {
	random := newRandom(t)
	h, dir := newHistory(t), t.TempDir()
	m := newModel(h, random)
	live := NewViews(h.tail, 0, quiet())
	commit := func() { live.apply(m.commit(random.IntN(8))) }
	c, err := commitAt(context.Background(), h.tail, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	live.apply(c)
	for generation := range 8 {
		for range random.IntN(60) {
			commit()
		}
		o := open(t, h.again(), dir)
		if (generation > 0) != (o.unread != nil) {
			t.Fatalf("generation %d: %s", generation, &o.log)
		}
		o.catchUp(h.chain.Sequence)
		for range random.IntN(5) {
			account := m.account()
			if live.accounts.byID[account] != nil {
				into[struct{}](t, o.Views, "account.get", account, `{}`)
			}
		}
		if random.IntN(3) == 0 {
			o.loadAll()
		}
		o.saving.step = func(string) { // between two turns
			for range random.IntN(3) {
				commit()
			}
			o.catchUp(h.chain.Sequence - uint64(random.IntN(2)))
		}
		o.save()
		o.catchUp(h.chain.Sequence)
		sameSaved(t, live, o.Views)
		o.loadAll()
		sameViews(t, "from a checkpoint", live, o.Views)
	}
	o := open(t, h.again(), dir)
	o.catchUp(h.chain.Sequence)
	o.loadAll()
	m.check(t, o.Views)
}

// TestCheckpointAtAnyStop: whatever a stop leaves in the folder, the next start has the same
// views, and the next checkpoint leaves two files.
func TestCheckpointAtAnyStop(t *testing.T) {
	h, dir := newHistory(t), t.TempDir()
	m := newModel(h, newRandom(t))
	live := open(t, h.again(), dir)
	var steps []string
	var copies []string
	live.saving.step = func(step string) {
		to := t.TempDir()
		if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		steps, copies = append(steps, step), append(copies, to)
	}
	for range 4 {
		for range 20 {
			m.commit(2)
		}
		live.catchUp(h.chain.Sequence)
		live.save()
	}
	for i, name := range copies {
		o := open(t, h.again(), name)
		if strings.Contains(o.log.String(), "skip") {
			t.Errorf("after %s: %s", steps[i], &o.log)
		}
		if _, err := CheckpointWitnesses(name, 0); err != nil {
			t.Errorf("after %s: %v", steps[i], err)
		}
		o.catchUp(h.chain.Sequence)
		sameSaved(t, live.Views, o.Views)
		o.save()
		if files, err := os.ReadDir(name); err != nil || len(files) > 2 {
			t.Errorf("after %s and another checkpoint: %v, %v", steps[i], files, err)
		}
	}
	if names, begun, err := checkpointNames(dir, 0); err != nil || len(names) != 2 || len(begun) > 0 {
		t.Errorf("the newest and the one before it are not there: %v, %v", names, err)
	}
	live.saving.Room = func(int64) error { return errors.New("the volume is full") }
	if err := live.checkpoint(t.Context()); err == nil {
		t.Error("a checkpoint was made without room for it")
	}
	for _, step := range []string{"removed", "turn", "written", "synced", "renamed"} {
		if !strings.Contains(strings.Join(steps, " "), step) {
			t.Errorf("no stop after %q: %v", step, steps)
		}
	}
}

// small makes a log, and a folder with an older and a newer checkpoint of it.
func small(t *testing.T) (h *history, dir string, live *opened, newest string) {
	h, dir = newHistory(t), t.TempDir()
	live = open(t, h.again(), dir)
	h.commit(h.account("acme"))
	h.commit(h.granted("acme", "grant_1", 100, 0, 100))
	live.catchUp(h.chain.Sequence)
	live.save()
	h.commit(h.account("beta"))
	live.catchUp(h.chain.Sequence)
	live.save()
	return h, dir, live, filepath.Join(dir, live.saving.newest)
}

// TestDamagedCheckpoints: a file with any byte changed, or cut short anywhere, is skipped
// for the older one; as a witness it says the truth or nothing.
func TestDamagedCheckpoints(t *testing.T) {
	h, dir, live, newest := small(t)
	data, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	truth, err := CheckpointWitnesses(dir, 0)
	if err != nil || len(truth) != 2 || truth[0].Sequence != h.chain.Sequence || truth[0].Hash != h.chain.Hash {
		t.Fatalf("witnesses %+v, %v", truth, err)
	}
	try := func(what string, damaged []byte) {
		t.Helper()
		if err := os.WriteFile(newest, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		o := open(t, h.again(), dir)
		if !strings.Contains(o.log.String(), "skip saved views") || o.applied.Sequence != 3 {
			t.Errorf("%s: begins at %d, logged %s", what, o.applied.Sequence, &o.log)
		}
		o.catchUp(h.chain.Sequence)
		sameSaved(t, live.Views, o.Views)
		found, err := CheckpointWitnesses(dir, 0)
		if err != nil || len(found) == 0 || len(found) == 2 && found[0] != truth[0] {
			t.Errorf("%s: witnesses %+v, %v", what, found, err)
		}
	}
	for i := range data {
		damaged := bytes.Clone(data)
		damaged[i] ^= 1 << (i % 8)
		try(fmt.Sprintf("byte %d of %d changed", i, len(data)), damaged)
		try(fmt.Sprintf("cut to %d of %d", i, len(data)), data[:i])
	}
	try("longer", append(bytes.Clone(data), 0))
	if err := os.WriteFile(newest, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if o := open(t, h.again(), dir); o.applied.Sequence != h.chain.Sequence {
		t.Errorf("undamaged it was not used: %s", &o.log)
	}
}

// TestUnusableCheckpoints are whole, and not of this log and these views.
func TestUnusableCheckpoints(t *testing.T) {
	h, dir, live, _ := small(t)
	other := newHistory(t)
	other.now++
	for range 10 {
		other.commit(other.account("other"))
	}
	for name, tail := range map[string]*store.Tail{
		"begins at commit": other.again(),
		"look up its base": newHistory(t).again(),
	} {
		if o := open(t, tail, dir); o.unread != nil || strings.Count(o.log.String(), name) != 2 {
			t.Errorf("another log: %s", &o.log)
		}
	}
	// A log that has the base and not the end.
	live.saving.step = func(step string) {
		if step == "turn" {
			live.catchUp(h.commit(h.granted("beta", "grant_2", 5, 0, 5)).Sequence)
			live.saving.step = func(string) {}
		}
	}
	short := &store.Memory{}
	live.save()
	for sequence := uint64(1); sequence < h.chain.Sequence; sequence++ {
		data, err := h.log.Get(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := short.Append(t.Context(), data, sequence-1); err != nil {
			t.Fatal(err)
		}
	}
	if o := open(t, store.NewTail(short, 0), dir); !strings.Contains(o.log.String(), "look up its end") {
		t.Errorf("a log that lost the end: %s", &o.log)
	}
	// Another version of a view, and a view that is new.
	for _, own := range []Projection{&versioned{newBalances(), 2}, &fold{name: "new"}} {
		r := NewRunner(h.again(), 0, slog.New(slog.NewTextHandler(&live.log, nil)), made(own))
		r.Checkpoints(CheckpointConfig{Dir: dir})
		r.Restore(t.Context())
		if r.unread != nil || !strings.Contains(live.log.String(), "it has none of "+own.Name()) {
			t.Errorf("%s: %s", own.Name(), &live.log)
		}
	}
}

// versioned is another version of a projection.
type versioned struct {
	Projection
	version uint64
}

func (v *versioned) Version() uint64 { return v.version }

// TestFailuresAndCheckpoints: a view that failed is not saved, one that fails while it is
// saved takes the checkpoint with it, and one that cannot load an account fails alone.
func TestFailuresAndCheckpoints(t *testing.T) {
	h, dir, live, newest := small(t)
	live.saving.step = func(step string) {
		if step == "turn" {
			h.commit(h.debited("acme", "key_unknown", 90, events.Draw{Grant: "grant_1", Amount: 10}))
			live.catchUp(h.chain.Sequence)
			live.saving.step = func(string) {}
		}
	}
	h.commit(h.account("gamma"))
	live.catchUp(h.chain.Sequence)
	if err := live.checkpoint(t.Context()); err == nil || !strings.Contains(err.Error(), "the view keys stopped meanwhile") {
		t.Errorf("a view failed during a checkpoint: %v", err)
	}
	if _, err := os.Stat(newest); err != nil {
		t.Error(err)
	}
	live.save()
	if o := open(t, h.again(), dir); !strings.Contains(o.log.String(), "saved views lack projections") || !strings.Contains(o.log.String(), "keys version 1") {
		t.Errorf("a view that failed was saved: %s", &o.log)
	}
	h, dir, _, _ = small(t)
	o := open(t, h.again(), dir)
	piece := o.unread.piece(0, 2)
	piece[0] = 0xff // no length of the environment's name
	if _, err := ask(t, o.Views, "balance.get", "acme", `{"environment":"test"}`); err == nil || err.Code != events.Unavailable {
		t.Errorf("a balance that could not be loaded: %v", err)
	}
	if got := into[struct{ Account events.Account }](t, o.Views, "account.get", "acme", `{}`).Account; got.ID != "acme" {
		t.Errorf("the others answer %+v", got)
	}
}
