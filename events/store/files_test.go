package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/keyledger/keyledger/events/store"
)

// logFiles is a log of two blocks as the real server wrote them, and its commits.
func logFiles(t *testing.T) (blocks []string, commits []*store.Commit) {
	t.Helper()
	dir := t.TempDir()
	log := openLog(t, startJetStreamOn(t, dir), 1<<28)
	var chain store.Chain
	for range 260 { // the first block takes 8 MiB
		c := follow(chain, 700)
		if _, err := log.Append(t.Context(), encode(c), chain.Sequence); err != nil {
			t.Fatal(err)
		}
		chain, commits = store.ChainAt(c), append(commits, c)
	}
	commits = append(commits, fill(t, log, chain, 3)...)
	blocks, err := store.BlockFiles(filepath.Join(dir, "jetstream", "$G", "streams"), store.StreamLog(0))
	if err != nil || len(blocks) < 2 {
		t.Fatalf("blocks %v, %v: this test needs two", blocks, err)
	}
	return blocks, commits
}

// copied is copies of block files, with the newest changed.
func copied(t *testing.T, blocks []string, change func([]byte) []byte) []string {
	t.Helper()
	dir := t.TempDir()
	copies := make([]string, len(blocks))
	for i, path := range blocks {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if i == len(blocks)-1 {
			data = change(data)
		}
		copies[i] = filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(copies[i], data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return copies
}

// The files of a log are read as the server of go.mod writes them: a change of its format
// is found here.
func TestFilesHoldTheLog(t *testing.T) {
	blocks, commits := logFiles(t)
	var chain store.Chain
	next := 0
	torn, err := store.CheckFiles(blocks, &chain, func(c *store.Commit) error {
		if c.Hash != commits[next].Hash {
			t.Fatalf("commit %d is another", c.Sequence)
		}
		next++
		return nil
	})
	if err != nil || torn != 0 || next != len(commits) || chain != store.ChainAt(commits[next-1]) {
		t.Errorf("%d commits of %d, %d bytes torn: %v", next, len(commits), torn, err)
	}
	if err := store.CheckNewestFile(blocks, 0); err != nil {
		t.Error(err)
	}
	if err := store.CheckNewestFile(nil, 0); err != nil {
		t.Error(err)
	}
	stop := errors.New("stop")
	if _, err := store.CheckFiles(blocks, &store.Chain{}, func(*store.Commit) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("stopped with %v", err)
	}
	if _, err := store.CheckFiles(blocks[1:], &store.Chain{}, func(*store.Commit) error { return nil }); err == nil {
		t.Error("the first block is missing and nothing was said")
	}
}

// A write that was cut short ends a log; a bad commit with others behind it is damage,
// and the newest block tells the two apart before NATS cuts it there.
func TestTornOrDamaged(t *testing.T) {
	blocks, commits := logFiles(t)
	last := commits[len(commits)-1]
	message := encode(last)
	start := func(data []byte, message []byte) int { return bytes.LastIndex(data, message) }
	before := encode(commits[len(commits)-2])
	for name, c := range map[string]struct {
		change func([]byte) []byte
		torn   bool
		at     uint64 // of the damage
	}{
		"one byte is missing":         {func(b []byte) []byte { return b[:len(b)-1] }, true, 0},
		"half of the last is missing": {func(b []byte) []byte { return b[:start(b, message)+9] }, true, 0},
		"only the length is there":    {func(b []byte) []byte { return append(b[:start(b, message)-30], 1, 2, 3) }, true, 0},
		"zeros behind it":             {func(b []byte) []byte { return append(b, make([]byte, 5000)...) }, true, 0},
		"the last one is flipped":     {func(b []byte) []byte { b[start(b, message)+60] ^= 1; return b }, true, 0},
		"the one before is flipped":   {func(b []byte) []byte { b[start(b, before)+60] ^= 1; return b }, false, last.Sequence - 1},
		"its length is flipped":       {func(b []byte) []byte { i := start(b, before); return flipLength(b, i) }, false, last.Sequence - 1},
		"a subject is in a cut-off commit": {func(b []byte) []byte {
			return append(b, []byte("xxxxxxxxxxxxxxxxxxxxxxkeyledger.log.0 keyledger.log.0 x")...)
		}, true, 0},
		"the first of the block": {func(b []byte) []byte { b[80+bytes.Index(b, []byte("KLC"))] ^= 1; return b }, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			files := copied(t, blocks, c.change)
			torn, all := store.CheckFiles(files, &store.Chain{}, func(*store.Commit) error { return nil })
			newest := store.CheckNewestFile(files, 0)
			if c.torn {
				if all != nil || newest != nil || torn == 0 {
					t.Errorf("%d bytes torn, %v, %v", torn, all, newest)
				}
				return
			}
			for _, err := range []error{all, newest} {
				var damage *store.DamageError
				if !errors.As(err, &damage) || c.at != 0 && damage.Sequence != c.at {
					t.Errorf("found %v, want damage at %d", err, c.at)
				}
			}
		})
	}
	// Nothing was written: the files are as they were.
	again := copied(t, blocks, slices.Clone[[]byte])
	if err := store.CheckNewestFile(again, 0); err != nil {
		t.Error(err)
	}
}

// flipLength makes the record that holds the message at i longer than the block.
func flipLength(b []byte, i int) []byte {
	const highByte = 2 // of the length, 4 bytes, little endian
	record := bytes.LastIndex(b[:i], []byte(store.SubjectLog(0))) - 22
	b[record+highByte] ^= 0x80
	return b
}
