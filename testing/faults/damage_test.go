package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/server"
	"github.com/keyledger/keyledger/testing/ledgertest"
	"github.com/keyledger/keyledger/testing/receiver"
)

// sample is a small ledger at rest, to be damaged in copies.
type sample struct {
	dir     string
	commits []*store.Commit // what its log holds
}

// streamsFolder is where the streams lie in a data directory.
const streamsFolder = "nats/jetstream/KEYLEDGER_STORE/streams"

// logBlock is the newest, and only, block of a sample's log.
const logBlock = streamsFolder + "/KEYLEDGER_LOG_0/msgs/1.blk"

// newSample makes one that every witness has seen whole.
func newSample(t *testing.T) *sample {
	t.Helper()
	hooks, err := receiver.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hooks.Close() })
	l := ledgertest.Start(t)
	key := prepare(t, l.Client, hooks, "acme")
	cost := int64(10)
	for range 9 { // the log stays short enough to be read message by message
		if _, err := l.Authorize(t.Context(), &ledger.Authorize{Secret: key.Secret, Product: "payments", Cost: &cost}); err != nil {
			t.Fatal(err)
		}
	}
	commits := l.Commits()
	// The checkpoint of webhooks, which the stop writes, has seen what was delivered.
	checkHooks(t, hooks, commits)
	checkFeed(t, l.Conn(), commits)
	l.Stop()
	return &sample{dir: l.Dir, commits: commits}
}

// copy is a copy of the sample, to be damaged.
func (s *sample) copy(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(s.dir, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(dir, name), 0o700)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name), data, 0o600)
	}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// errUndecided must never come.
var errUndecided = errors.New("keyledger neither serves nor refuses")

// startOn starts a keyledger on a directory, reads its log when it serves, and stops it.
func startOn(t *testing.T, dir string) (list []*store.Commit, err error) {
	t.Helper()
	s, err := server.Open(server.Config{
		DataDir: dir, Listen: "127.0.0.1:0", HTTP: "off", Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
		AllowHTTPEndpoints: true, AllowEndpointNets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-s.Ready():
		seed, seedErr := nats.NkeyOptionFromSeed(s.OperatorKeyPath())
		if seedErr != nil {
			t.Fatal(seedErr)
		}
		conn, connErr := nats.Connect(s.URL(), seed)
		if connErr != nil {
			t.Fatal(connErr)
		}
		list, err = readCommits(ctx, conn)
		conn.Close()
		cancel()
		err = errors.Join(err, <-done)
	case err = <-done:
		if err == nil {
			t.Fatal("keyledger stopped by itself without saying why")
		}
	case <-time.After(patience):
		cancel()
		err = fmt.Errorf("%w within %s: %w", errUndecided, patience, <-done)
	}
	cancel()
	return list, errors.Join(err, s.Close())
}

// begins checks that a log begins with the first commits of the sample, and that nothing
// but the starts of epochs follows them.
func (s *sample) begins(t *testing.T, list []*store.Commit, what string) (kept int) {
	t.Helper()
	for i, c := range list {
		switch {
		case i < len(s.commits) && c.Hash == s.commits[i].Hash:
			kept++
		case len(c.Entries) > 0:
			t.Fatalf("%s: commit %d is another than before", what, c.Sequence)
		}
	}
	return kept
}

// verifyOn checks a directory as audit verify --data-dir does.
func verifyOn(dir string) (*server.Verification, error) {
	return server.Verify(context.Background(), server.Config{DataDir: dir}, func(*store.Commit) error { return nil })
}

// remove takes files away.
func remove(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// removeWitnesses leaves of a directory the log alone.
func removeWitnesses(t *testing.T, dir string) {
	t.Helper()
	folders, err := os.ReadDir(filepath.Join(dir, streamsFolder))
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		if folder.Name() != store.StreamLog(0) {
			remove(t, dir, filepath.Join(streamsFolder, folder.Name()))
		}
	}
	remove(t, dir, "head", store.DirViews)
}

// The log is cut at every byte of its last commits. With its witnesses a start refuses
// and names the position, in the words of audit verify; so it does with any one of them.
// Without any it goes on from a whole shorter log, or refuses.
func TestTailCut(t *testing.T) {
	s := newSample(t)
	block, err := os.ReadFile(filepath.Join(s.dir, logBlock))
	if err != nil {
		t.Fatal(err)
	}
	const last = 3 // commits
	ends := append(recordStarts(block), len(block))
	if len(ends) != len(s.commits)+1 {
		t.Fatalf("the block has %d records, the log %d commits", len(ends)-1, len(s.commits))
	}
	var cuts []int
	for at := ends[len(ends)-1-last]; at < len(block); at++ {
		cuts = append(cuts, at)
	}
	if os.Getenv(roundsEnv) == "" {
		random(t).Shuffle(len(cuts), func(i, j int) { cuts[i], cuts[j] = cuts[j], cuts[i] })
		cuts = append(cuts[:6], ends[len(ends)-3:len(ends)-1]...) // and between two commits
	}
	for _, at := range cuts {
		whole := 0 // commits before the cut
		for _, end := range ends[1:] {
			if end <= at {
				whole++
			}
		}
		s.cut(t, at, whole)
	}
	for _, only := range []string{"head", "KEYLEDGER_EVENTS_0", "KEYLEDGER_LANES_0", "KEYLEDGER_CHECKPOINTS_0"} {
		s.cutWith(t, ends[len(ends)-2], only)
	}
}

// logIndex is what NATS knows of the log's blocks. It is written at a stop, not before
// kill -9, and is one more witness.
const logIndex = streamsFolder + "/KEYLEDGER_LOG_0/msgs/index.db"

// cut cuts the log at a byte, with so many whole commits before it.
func (s *sample) cut(t *testing.T, at, whole int) {
	t.Helper()
	for _, index := range []bool{true, false} {
		what := fmt.Sprintf("cut at byte %d, behind commit %d, with the index: %t", at, whole, index)
		damaged := func() string {
			dir := s.copy(t)
			if err := os.Truncate(filepath.Join(dir, logBlock), int64(at)); err != nil {
				t.Fatal(err)
			}
			if !index {
				remove(t, dir, logIndex)
			}
			return dir
		}
		// A witness says where the log ends, the index what is missing.
		position := fmt.Sprintf("the log ends (after [0-9]+, )?at (0:)?%d;|log damaged at 0:%d:", whole, whole+1)
		_, refusal := startOn(t, damaged())
		if errors.Is(refusal, errUndecided) {
			t.Fatalf("%s: %v", what, refusal)
		}
		if refusal == nil || !regexp.MustCompile(position).MatchString(refusal.Error()) {
			t.Errorf("%s: a start said %v", what, refusal)
		}
		if _, err := verifyOn(damaged()); err == nil || refusal == nil || err.Error() != refusal.Error() {
			t.Errorf("%s: verify said %v, a start %v", what, err, refusal)
		}
		dir := damaged()
		removeWitnesses(t, dir)
		list, err := startOn(t, dir)
		var damage *store.DamageError
		if index && errors.As(err, &damage) {
			continue
		}
		if err != nil {
			t.Errorf("%s, without witnesses: a start said %v", what, err)
		} else if kept := s.begins(t, list, what); kept != whole || len(list) != whole+1 {
			t.Errorf("%s: %d commits of %d were kept, and %d others came", what, kept, whole, len(list)-kept)
		}
	}
}

// cutWith cuts the log with one witness left.
func (s *sample) cutWith(t *testing.T, at int, only string) {
	t.Helper()
	dir, kept := s.copy(t), filepath.Join(t.TempDir(), "kept")
	place := filepath.Join(dir, only)
	if only != "head" {
		place = filepath.Join(dir, streamsFolder, only)
	}
	if err := os.Rename(place, kept); err != nil {
		t.Fatal(err)
	}
	removeWitnesses(t, dir)
	remove(t, dir, logIndex)
	if err := errors.Join(os.Rename(kept, place), os.Truncate(filepath.Join(dir, logBlock), int64(at))); err != nil {
		t.Fatal(err)
	}
	if _, err := startOn(t, dir); !errors.Is(err, server.ErrLoss) {
		t.Errorf("the last commit was cut off and of all witnesses only %s was left: a start said %v", only, err)
	}
}

// recordStarts is where the records of the log begin in a block.
func recordStarts(block []byte) []int {
	const before = 4 + 8 + 8 + 2 // bytes of a record before its subject
	var starts []int
	for at := 0; ; {
		i := bytes.Index(block[at:], []byte(store.SubjectLog(0)))
		if i < 0 {
			return starts
		}
		starts = append(starts, at+i-before)
		at += i + 1
	}
}

// One bit is flipped, anywhere in the data directory. Either a start or audit verify
// refuses and says what to do, or nothing of the history is changed.
func TestFlippedBits(t *testing.T) {
	r := random(t)
	s := newSample(t)
	var files []string
	if err := filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		name, relErr := filepath.Rel(s.dir, path)
		if entry.Type().IsRegular() && name != "operator.nk" { // who may command, not history
			if info, err := entry.Info(); err == nil && info.Size() > 0 {
				files = append(files, name)
			}
		}
		return errors.Join(err, relErr)
	}); err != nil {
		t.Fatal(err)
	}
	found, harmless := map[string]int{}, map[string]int{}
	for range 20 * rounds(t, 1) {
		name := files[r.IntN(len(files))]
		if s.flip(t, r, name) {
			found[name]++
		} else {
			harmless[name]++
		}
	}
	for _, name := range files {
		t.Logf("found %3d, harmless %3d: %s", found[name], harmless[name], name)
	}
}

// flip flips one bit of a file and reports whether that was found.
func (s *sample) flip(t *testing.T, r *rand.Rand, name string) bool {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	bit, killed := r.IntN(8*len(data)), r.IntN(2) == 0
	what := fmt.Sprintf("bit %d of %s, without indexes: %t", bit, name, killed)
	data[bit/8] ^= 1 << (bit % 8)
	flipped := func() string {
		dir := s.copy(t)
		if killed { // NATS then reads every block
			indexes, err := filepath.Glob(filepath.Join(dir, streamsFolder, "*", "msgs", "index.db"))
			if err != nil {
				t.Fatal(err)
			}
			for _, index := range indexes {
				if err := os.Remove(index); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	_, verifyErr := verifyOn(flipped())
	list, err := startOn(t, flipped())
	switch {
	case err == nil:
		if kept := s.begins(t, list, what); kept != len(s.commits) {
			t.Errorf("%s: a start kept %d of %d commits and said nothing", what, kept, len(s.commits))
		}
	case errors.Is(err, errUndecided):
		t.Errorf("%s: %v", what, err)
	case !strings.Contains(err.Error(), "restore"):
		t.Errorf("%s: a start does not say what to do: %v", what, err)
	case verifyErr == nil && (errors.As(err, new(*store.DamageError)) || errors.Is(err, server.ErrLoss)):
		t.Errorf("%s: a start said %v, and verify nothing", what, err)
	}
	return err != nil || verifyErr != nil
}

// NATS cuts a block off at its first bad record when it opens it. A start that finds
// commits behind a bad one refuses before that: what can still be saved is still there.
func TestDamageIsLeftAsItIs(t *testing.T) {
	r := random(t)
	s := newSample(t)
	block, err := os.ReadFile(filepath.Join(s.dir, logBlock))
	if err != nil {
		t.Fatal(err)
	}
	for range rounds(t, 5) {
		n := r.IntN(len(s.commits) - 1)
		// Anywhere in the commit: what stands around it is NATS', and a witness's to find.
		hash := bytes.Index(block, s.commits[n].Hash[:])
		record := bytes.LastIndex(block[:hash], []byte(store.SubjectLog(0)))
		begin := record + bytes.Index(block[record:], []byte("KLC"))
		damaged := bytes.Clone(block)
		damaged[begin+r.IntN(hash-begin)] ^= 1 << r.IntN(8)
		for what, look := range map[string]func(string) error{
			"a start": func(dir string) error { _, err := startOn(t, dir); return err },
			"verify":  func(dir string) error { _, err := verifyOn(dir); return err },
		} {
			dir := s.copy(t)
			remove(t, dir, logIndex)
			if err := os.WriteFile(filepath.Join(dir, logBlock), damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			err := look(dir)
			var damage *store.DamageError
			if !errors.As(err, &damage) || damage.Sequence != s.commits[n].Sequence {
				t.Errorf("commit %d was changed: %s said %v", s.commits[n].Sequence, what, err)
			}
			if after, err := os.ReadFile(filepath.Join(dir, logBlock)); err != nil || !bytes.Equal(after, damaged) {
				t.Errorf("commit %d was changed, and %s changed the file: %v", s.commits[n].Sequence, what, err)
			}
		}
	}
}
