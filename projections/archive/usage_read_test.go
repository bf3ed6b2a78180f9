package archive

import (
	"context"
	"log/slog"
	"maps"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// usage counts the log by one pass that shares no code with the archive.
func (h *bench) usage() naiveUsage {
	h.t.Helper()
	naive, chain := naiveUsage{}, store.Chain{}
	err := store.ReadChecked(context.Background(), h.log, &chain, h.chain.Sequence, func(c *store.Commit) error {
		for i := range c.Entries {
			for j := range c.Entries[i].Events {
				e := &c.Entries[i].Events[j]
				naive.add(e.Account, int64(c.Time)/HourMS, e)
			}
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return naive
}

// checkUsage compares the usage of every account with the naive one, of all hours and of
// some.
func (h *bench) checkUsage(a *Archive, naive naiveUsage) {
	h.t.Helper()
	accounts := []string{Ledger, Accounts, "nobody"}
	for account := range h.entries {
		accounts = append(accounts, account)
	}
	last := int64(h.chain.Time) / HourMS
	for _, account := range accounts {
		for n := range 4 {
			from, to := int64(0), last+1
			if n > 0 {
				from = h.random.Int64N(last + 1)
				to = from + h.random.Int64N(last+2-from)
			}
			want := maps.Clone(naive)
			maps.DeleteFunc(want, func(name string, _ [3]int64) bool {
				of, rest, _ := strings.Cut(name, "|")
				text, _, _ := strings.Cut(rest, "|")
				hour, err := strconv.ParseInt(text, 10, 64)
				return err != nil || of != account || hour < from || hour >= to
			})
			got := naiveUsage{}
			at, err := a.Usage(h.t.Context(), 0, account, events.Time(from)*HourMS, events.Time(to)*HourMS, got.take(account))
			if err != nil || at != h.chain.Position() || !maps.Equal(got, want) {
				h.t.Fatalf("usage of %s from hour %d to %d at %s: %v, %v; want %v", account, from, to, at, got, err, want)
			}
		}
	}
}

// What the archive says of usage, from memory, files and merged files, is what the log
// says: also after a restart, and when all files are lost, which come out the same.
func TestUsageOverSegments(t *testing.T) {
	h, dir := newBench(t), t.TempDir()
	a := h.open(dir, h.tail, nil)
	stop := run(t, a)
	for range 12 {
		h.chain.Time += events.Time(h.random.Int64N(3 * HourMS))
		h.grow(testSpan + h.random.IntN(testSpan))
	}
	h.reach(a)
	if naive := h.usage(); len(naive) < 50 {
		t.Fatalf("only %d rows", len(naive))
	}
	h.checkUsage(a, h.usage())
	stop()
	a.Close()
	before := files(t, dir)

	a = h.open(dir, h.again(), nil)
	stop = run(t, a)
	h.reach(a)
	h.checkUsage(a, h.usage())
	stop()
	a.Close()

	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	a = h.open(dir, h.again(), slog.New(slog.DiscardHandler))
	run(t, a)
	h.reach(a)
	h.checkUsage(a, h.usage())
	if after := files(t, dir); !maps.Equal(before, after) {
		t.Error("the files that were made again are others")
	}
}

// An error of who reads ends it, and so does the end of its context.
func TestUsageEnds(t *testing.T) {
	h := newBench(t)
	a := h.open(t.TempDir(), h.tail, nil)
	run(t, a)
	h.grow(5 * testSpan)
	h.reach(a)
	rows := 0
	_, err := a.Usage(t.Context(), 0, Ledger, 0, math.MaxInt64, func(*UsageRow) error { rows++; return os.ErrInvalid })
	if rows != 1 || err == nil {
		t.Errorf("%d rows, %v", rows, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Usage(ended, 0, Ledger, 0, math.MaxInt64, func(*UsageRow) error { return nil }); err == nil {
		t.Error("it goes on when nobody waits")
	}
}
