package archive

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestFullVolume: where there is no room nothing is written and nothing is lost: what is
// open answers on, it is not read again, and is stored once there is room.
func TestFullVolume(t *testing.T) {
	h := newBench(t)
	h.grow(testSpan*testFan + 10)
	for name, fail := range map[string]func(a *Archive, look func() error){
		"no room":                func(a *Archive, look func() error) { a.cfg.Room = func(int64) error { return look() } },
		"an error while writing": func(a *Archive, look func() error) { a.step = func(string) error { return look() } },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a := h.open(dir, h.again(), nil)
			var full atomic.Bool
			full.Store(true)
			fail(a, func() error {
				if full.Load() {
					return errors.New("the volume is full")
				}
				return nil
			})
			pauses, goOn := make(chan time.Duration), make(chan time.Time)
			a.after = func(pause time.Duration) <-chan time.Time {
				pauses <- pause
				return goOn
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- a.Run(ctx) }()
			var got []time.Duration
			got = append(got, <-pauses)
			reads, end := 0, a.Applied().Sequence
			h.log.ReadFault = func(sequence uint64) error {
				if sequence < end {
					reads++
				}
				return nil
			}
			for range 5 {
				goOn <- time.Time{}
				got = append(got, <-pauses)
			}
			if want := []time.Duration{5e9, 10e9, 20e9, 40e9, 60e9, 60e9}; !slices.Equal(got, want) {
				t.Errorf("pauses %v, want %v", got, want)
			}
			if left := files(t, dir); len(left) != 0 {
				t.Errorf("%d files on a volume that is full", len(left))
			}
			if at := a.Applied(); a.number(at) != 1 || reads > 0 {
				t.Errorf("it is at %s; %d commits that it has were read again", at.Position(), reads)
			}
			if !strings.Contains(a.Trouble(), "the volume is full") {
				t.Errorf("says %q", a.Trouble())
			}
			h.log.ReadFault = nil
			full.Store(false)
			goOn <- time.Time{}
			h.reach(a)
			h.check(a)
			if a.Trouble() != "" {
				t.Errorf("goes on and says %q", a.Trouble())
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRoomToMerge: segments are merged only where there is room for all of them again.
func TestRoomToMerge(t *testing.T) {
	h := newBench(t)
	h.grow(testSpan*testFan + 10)
	dir := t.TempDir()
	a := h.open(dir, h.again(), nil)
	asked, goOn := make(chan int64), make(chan time.Time)
	a.cfg.Room = func(bytes int64) error {
		if bytes == openRoom {
			return nil
		}
		asked <- bytes
		return errors.New("no")
	}
	a.after = func(time.Duration) <-chan time.Time { return goOn }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	bytes := <-asked
	if err := a.Wait(patience(t), h.chain.Sequence); err != nil {
		t.Fatal(err)
	}
	want := 0
	left := files(t, dir)
	for _, text := range left {
		want += len(text)
	}
	if bytes != int64(want) || len(left) != testFan {
		t.Errorf("asked for %d bytes with %d files of %d", bytes, len(left), want)
	}
	h.check(a)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestRoomIsAskedWhileWriting: a large file does not take what is left meanwhile.
func TestRoomIsAskedWhileWriting(t *testing.T) {
	dir := t.TempDir()
	full := errors.New("full")
	c, err := create(dir, footer{}, func(step string) error {
		if step == stepPart {
			return full
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.write(make([]byte, syncEvery)); err != nil {
		t.Errorf("%d bytes: %v", syncEvery, err)
	}
	if err := c.write([]byte{1}); !errors.Is(err, full) {
		t.Errorf("one more: %v", err)
	}
	c.discard()
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("%d files are left", len(left))
	}
	a := &Archive{cfg: Config{Room: func(int64) error { return full }}, step: func(string) error { return nil }}
	if err := a.stepped(stepPart); !errors.Is(err, full) {
		t.Errorf("room is not asked for: %v", err)
	}
}
