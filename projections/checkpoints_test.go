package projections

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/events/store/proof"
)

const testOrigin = "keyledger/01K6Z5T0XKQ4R7N2M3V6W9Y1AB/0"

// signTest is a log that is signed.
type signTest struct {
	*history
	js     jetstream.JetStream
	config jetstream.StreamConfig
	key    *proof.Key
	path   string
	minute chan time.Time // a send is the end of a minute
}

func newSignTest(t *testing.T) *signTest {
	s := &signTest{
		history: newHistory(t), config: streams(t, store.StreamCheckpoints(0))[0],
		path: filepath.Join(t.TempDir(), "proof", "hashes"), minute: make(chan time.Time),
	}
	_, _, s.js = startNATS(t)
	var err error
	if s.key, err = proof.NewKey([proof.SeedBytes]byte{7}, testOrigin); err != nil {
		t.Fatal(err)
	}
	return s
}

// signer makes Checkpoints as after a start.
func (s *signTest) signer() *Checkpoints {
	s.t.Helper()
	c, err := NewCheckpoints(CheckpointsConfig{
		JS: s.js, Tail: s.again(), Stream: s.config, Key: s.key, Path: s.path, Logger: quiet(),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	s.tail = c.cfg.Tail
	now := make(chan time.Time)
	close(now)
	c.after = func(d time.Duration) <-chan time.Time {
		switch d {
		case signEvery:
			return s.minute
		case signPause:
			return now
		}
		return nil
	}
	return c
}

// start runs one until the returned function stops it.
func (s *signTest) start() (*Checkpoints, func()) {
	s.t.Helper()
	c := s.signer()
	return c, run(s.t, c.Run)
}

// caught waits until the tree has the whole log.
func (s *signTest) caught(c *Checkpoints) {
	s.t.Helper()
	for ctx := patience(s.t); c.Status().Commits < s.chain.Sequence; runtime.Gosched() {
		if ctx.Err() != nil {
			s.t.Fatalf("the tree has %+v, the log %d", c.Status(), s.chain.Sequence)
		}
	}
}

// stored is every stored checkpoint, verified, in order. Each must be of the log, beyond
// the one before it.
func (s *signTest) stored() []*proof.Checkpoint {
	s.t.Helper()
	stream, err := s.js.Stream(patience(s.t), s.config.Name)
	if err != nil {
		s.t.Fatal(err)
	}
	var list []*proof.Checkpoint
	for n := uint64(1); n <= stream.CachedInfo().State.LastSeq; n++ {
		msg, err := stream.GetMsg(patience(s.t), n)
		if err != nil {
			s.t.Fatal(err)
		}
		c, err := proof.OpenCheckpoint(msg.Data, s.key.Verifier())
		if err != nil {
			s.t.Fatal(err)
		}
		if want := s.checkpoint(c.Size); *c != *want {
			s.t.Fatalf("checkpoint %d is %+v, of the log it is %+v", n, c, want)
		}
		if len(list) > 0 && c.Size <= list[len(list)-1].Size {
			s.t.Fatalf("checkpoint %d has %d commits, the one before %d", n, c.Size, list[len(list)-1].Size)
		}
		list = append(list, c)
	}
	return list
}

// checkpoint is that of the first n commits, made without the tree's file.
func (s *signTest) checkpoint(n uint64) *proof.Checkpoint {
	s.t.Helper()
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, index := range indexes {
			out = append(out, hashes[index])
		}
		return out, nil
	})
	chain := store.Chain{}
	err := store.ReadChecked(patience(s.t), s.log, &chain, n, func(c *store.Commit) error {
		more, err := tlog.StoredHashes(int64(c.Sequence-1), c.Hash[:], reader)
		hashes = append(hashes, more...)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	root, err := tlog.TreeHash(int64(n), reader)
	if err != nil {
		s.t.Fatal(err)
	}
	return proof.NewCheckpoint(testOrigin, &chain, root)
}

// proves checks that every commit can be proved, and that every stored checkpoint is the
// beginning of the newest.
func (s *signTest) proves(c *Checkpoints) {
	s.t.Helper()
	ctx := patience(s.t)
	newest, err := c.Newest(ctx, s.chain.Sequence)
	if err != nil {
		s.t.Fatal(err)
	}
	s.caught(c)
	for n := uint64(1); n <= s.chain.Sequence; n++ {
		p, err := c.Prove(ctx, n)
		if err != nil {
			s.t.Fatalf("prove %d: %v", n, err)
		}
		if commit, _, err := p.Check(s.key.Verifier()); err != nil || commit.Sequence != n {
			s.t.Fatalf("proof of %d: %v", n, err)
		}
	}
	for _, old := range s.stored() {
		signed, err := s.key.Sign(old)
		if err != nil {
			s.t.Fatal(err)
		}
		if _, err := c.ProveConsistent(Signed{old, signed}, newest); err != nil {
			s.t.Fatalf("%d in %d: %v", old.Size, newest.Checkpoint.Size, err)
		}
	}
}

// What is new is signed when a minute is over, what is not new is not, and the rest at a
// stop.
func TestSignsEachMinute(t *testing.T) {
	s := newSignTest(t)
	c, stop := s.start()
	for _, more := range []int{3, 0, 1, 0} {
		for range more {
			s.commit(s.account("acme"))
		}
		s.caught(c)
		s.minute <- time.Time{}
		s.minute <- time.Time{} // taken once the first was worked off
	}
	s.commit(s.account("acme"))
	s.commit(s.account("acme"))
	stop()
	var sizes []uint64
	for _, c := range s.stored() {
		sizes = append(sizes, c.Size)
	}
	if len(sizes) != 3 || sizes[0] != 4 || sizes[1] != 5 || sizes[2] != 7 {
		t.Errorf("signed at %v, want [4 5 7]", sizes)
	}
	_, stop = s.start()
	stop()
	if again := s.stored(); len(again) != 3 {
		t.Errorf("a start and a stop without anything new signed %d more", len(again)-3)
	}
}

// However many ask for one, signatures are a pause apart.
func TestSignaturesArePaced(t *testing.T) {
	s := newSignTest(t)
	c := s.signer()
	pause := make(chan time.Time)
	quick := c.after
	c.after = func(d time.Duration) <-chan time.Time {
		if d == signPause {
			return pause
		}
		return quick(d)
	}
	run(t, c.Run)
	for n := uint64(1); n <= 4; n++ {
		if n > 1 {
			s.commit(s.account("acme"))
			s.caught(c)
			none, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := c.Newest(none, n); !errors.Is(err, context.Canceled) {
				t.Fatalf("signed at once: %v", err)
			}
			pause <- time.Time{}
		}
		if newest, err := c.Newest(patience(t), n); err != nil || newest.Checkpoint.Size != n {
			t.Fatalf("%+v, %v", newest.Checkpoint, err)
		}
	}
	if list := s.stored(); len(list) != 4 {
		t.Errorf("%d were signed", len(list))
	}
}

// Nothing is signed that was not acknowledged, although it is in the log.
func TestSignsWhatIsAcknowledged(t *testing.T) {
	s := newSignTest(t)
	c, stop := s.start()
	tail := s.tail
	s.tail = store.NewTail(s.log, 0) // the writer was not told yet
	s.commit(s.account("acme"))
	if newest, err := c.Newest(patience(t), 1); err != nil || newest.Checkpoint.Size != 1 {
		t.Fatalf("%+v, %v", newest.Checkpoint, err)
	}
	stop()
	if list := s.stored(); len(list) != 1 || list[0].Size != tail.End().Sequence {
		t.Errorf("signed %+v, acknowledged was %d", list, tail.End().Sequence)
	}
}

var errStopped = errors.New("stopped here")

// A signature that ends at any of its steps, with whatever of the file was not synced
// lost, half written or full of zeroes, leaves what the next start goes on from. Where the
// step was reported as failed and all runs on, nothing is signed twice.
func TestStopsAtEachStep(t *testing.T) {
	for _, step := range []string{"checked", "signed", "stored"} {
		for name, spoil := range map[string]func(*testing.T, string){
			"kept": func(*testing.T, string) {},
			"lost": func(t *testing.T, path string) { resize(t, path, 64*4) },
			"half": func(t *testing.T, path string) { resize(t, path, 64*5+7) },
			"zero": func(t *testing.T, path string) { resize(t, path, 64*4); resize(t, path, 64*20) },
			"none": func(t *testing.T, path string) { resize(t, path, 0) },
			"gone": func(t *testing.T, path string) { os.RemoveAll(filepath.Dir(path)) },
		} {
			t.Run(step+" "+name, func(t *testing.T) {
				s := newSignTest(t)
				c, stop := s.start()
				for range 3 {
					s.commit(s.account("acme"))
				}
				if _, err := c.Newest(patience(t), 4); err != nil {
					t.Fatal(err)
				}
				stop()
				c = s.signer()
				s.stopAt(c, step)
				spoil(t, s.path)
				c, _ = s.start()
				s.commit(s.account("acme"))
				s.proves(c)
			})
		}
		t.Run(step+" reported as failed", func(t *testing.T) {
			s := newSignTest(t)
			c := s.signer()
			failed := 0
			c.step = func(at string) error {
				if at == step && failed < 2 {
					failed++
					return errStopped
				}
				return nil
			}
			run(t, c.Run)
			for range 6 {
				s.commit(s.account("acme"))
				if _, err := c.Newest(patience(t), s.chain.Sequence); err != nil {
					t.Fatal(err)
				}
			}
			s.proves(c)
			if failed != 2 {
				t.Errorf("failed %d times", failed)
			}
		})
	}
}

// stopAt runs c, which was not run before, over five new commits up to a step.
func (s *signTest) stopAt(c *Checkpoints, step string) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	c.step = func(at string) error {
		if at == step {
			cancel()
			return errStopped
		}
		return nil
	}
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	for range 5 {
		s.commit(s.account("acme"))
	}
	s.caught(c)
	s.minute <- time.Time{}
	if err := <-done; err != nil {
		s.t.Fatal(err)
	}
	c.Close()
}

func resize(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// A file of hashes that is damaged anywhere is made again: at the start where it does not
// have the signed root, else when the first proof from it does not hold.
func TestDamagedHashesAreMadeAgain(t *testing.T) {
	s := newSignTest(t)
	c, stop := s.start()
	for range 12 {
		s.commit(s.account("acme"))
	}
	s.proves(c)
	stop()
	whole, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(whole); at += 32 {
		changed := append([]byte(nil), whole...)
		changed[at+at/32%32] ^= 1
		if err := os.WriteFile(s.path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		c, stop := s.start()
		ctx := patience(t)
		for n := uint64(1); n <= s.chain.Sequence; {
			_, err := c.Prove(ctx, n)
			switch {
			case err == nil:
				n++
			case !errors.Is(err, ErrHashes) && !errors.Is(err, proof.ErrShort):
				t.Fatalf("hash %d: %v", at/32, err)
			}
			if ctx.Err() != nil {
				t.Fatalf("hash %d was not made again", at/32)
			}
		}
		stop()
		if again, err := os.ReadFile(s.path); err != nil || string(again) != string(whole) {
			t.Fatalf("hash %d: the file is not what it was (%v)", at/32, err)
		}
	}
	if list := s.stored(); len(list) != 1 {
		t.Errorf("%d checkpoints", len(list))
	}
}

// A file that is damaged while it is in use is found before anything more is signed.
func TestDamageIsFoundBeforeTheNextSignature(t *testing.T) {
	s := newSignTest(t)
	c, stop := s.start()
	for range 12 {
		s.commit(s.account("acme"))
	}
	if _, err := c.Newest(patience(t), 13); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	changed := append([]byte(nil), whole...)
	changed[tlog.StoredHashIndex(3, 0)*32] ^= 1 // the root of the first eight
	if err := os.WriteFile(s.path, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	s.commit(s.account("acme"))
	if _, err := c.Newest(patience(t), 14); err != nil {
		t.Fatal(err)
	}
	stop()
	if again, err := os.ReadFile(s.path); err != nil || string(again[:len(whole)]) != string(whole) {
		t.Errorf("the file was signed over as it was (%v)", err)
	}
}

// Whatever happens in whatever order, the key signs only logs that begin with each other.
func TestNeverTwoTrees(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := newSignTest(t)
	for range 12 {
		c := s.signer()
		steps := random.IntN(6)
		ctx, cancel := context.WithCancel(t.Context())
		c.step = func(string) error {
			if steps--; steps == 0 {
				if random.IntN(2) == 0 {
					cancel()
				}
				return errStopped
			}
			return nil
		}
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		rival := *s // on the same stream and log, with a file of its own
		rival.path += ".rival"
		stopRival := run(t, rival.signer().Run)
		s.tail = rival.tail
		for range random.IntN(20) {
			s.commit(s.account("acme"))
		}
		if random.IntN(2) == 0 {
			wait, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			_, _ = c.Newest(wait, s.chain.Sequence)
			cancel()
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		stopRival()
		c.Close()
		if info, err := os.Stat(s.path); err == nil && random.IntN(2) == 0 {
			resize(t, s.path, random.Int64N(info.Size()+64))
		}
	}
	s.commit(s.account("acme"))
	c, _ := s.start()
	s.proves(c)
}
