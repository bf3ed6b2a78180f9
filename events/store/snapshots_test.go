package store_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events/store"
)

const snapshotStream = "OBJ_" + store.BucketSnapshots

func openSnapshots(t *testing.T, js jetstream.JetStream) *store.ObjectSnapshots {
	t.Helper()
	s, err := store.OpenSnapshots(t.Context(), js, 0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// unfinished writes chunks of a snapshot at a sequence and stops there.
func unfinished(t *testing.T, to store.Snapshots, sequence uint64, chunks ...string) *store.Snapshot {
	t.Helper()
	s := store.NewSnapshot(0, sequence)
	for _, chunk := range chunks {
		if err := to.Append(t.Context(), &s, []byte(chunk)); err != nil {
			t.Fatal(err)
		}
	}
	return &s
}

// finished writes a whole one.
func finished(t *testing.T, to store.Snapshots, sequence uint64, chunks ...string) *store.Snapshot {
	t.Helper()
	s := unfinished(t, to, sequence, chunks...)
	s.End, s.EndHash, s.Accounts, s.Made, s.TookMS = sequence+1, sha256.Sum256(nil), 7, 1_700_000_000_123, 42
	if err := to.Finish(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return s
}

func content(t *testing.T, from store.Snapshots, id string) string {
	t.Helper()
	var b []byte
	err := from.Read(t.Context(), id, func(chunk []byte) error {
		b = append(b, chunk...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func list(t *testing.T, from store.Snapshots) []store.Snapshot {
	t.Helper()
	l, err := from.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestSnapshots(t *testing.T) {
	t.Run("memory", func(t *testing.T) { checkSnapshots(t, new(store.MemorySnapshots)) })
	t.Run("objects", func(t *testing.T) {
		js := startJetStream(t)
		openLog(t, js, 64<<20)
		checkSnapshots(t, openSnapshots(t, js))
	})
}

// checkSnapshots holds both implementations to the same.
func checkSnapshots(t *testing.T, s store.Snapshots) {
	if l := list(t, s); len(l) != 0 {
		t.Fatalf("an empty store lists %v", l)
	}
	half := unfinished(t, s, 2000, "half")
	if err := s.Prune(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	old := finished(t, s, 9, "o")
	newest := finished(t, s, 1000, "first ", "second")
	// Prune deletes what is unfinished: a crash at any chunk looks like that.
	if err := s.Read(t.Context(), half.ID, func(c []byte) error { return fmt.Errorf("still there: %q", c) }); err != nil {
		t.Error(err)
	}
	want := []store.Snapshot{*newest, *old}
	if diff := cmp.Diff(want, list(t, s), cmpopts.IgnoreUnexported(store.Snapshot{})); diff != "" {
		t.Errorf("the list (-want +got):\n%s", diff)
	}
	if got := content(t, s, newest.ID); got != "first second" || newest.Bytes != int64(len(got)) {
		t.Errorf("the newest of %d bytes holds %q", newest.Bytes, got)
	}
	stop := errors.New("stop")
	if err := s.Read(t.Context(), newest.ID, func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the callee's error came back as %v", err)
	}
	if err := s.Prune(t.Context(), newest.ID); err != nil {
		t.Fatal(err)
	}
	if l := list(t, s); len(l) != 1 || l[0].ID != newest.ID || content(t, s, newest.ID) != "first second" {
		t.Errorf("after pruning to one: %v", l)
	}
}

// A bucket made by hand with objects written by hand is an object store to everybody
// else: `nats object ls` and `nats object get` go through this API.
func TestSnapshotsAreObjects(t *testing.T) {
	js := startJetStream(t)
	openLog(t, js, 64<<20)
	s := finished(t, openSnapshots(t, js), 5, "first ", "second")
	bucket, err := js.ObjectStore(t.Context(), store.BucketSnapshots)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bucket.GetBytes(t.Context(), s.ID) // checks the digest
	if err != nil || string(b) != "first second" {
		t.Errorf("the object holds %q, %v", b, err)
	}
	objects, err := bucket.List(t.Context())
	if err != nil || len(objects) != 1 || objects[0].Name != s.ID || objects[0].Size != 12 || objects[0].Chunks != 2 {
		t.Errorf("the bucket lists %+v, %v", objects, err)
	}
}

// Whatever a crash leaves of an object, the store still lists and reads the others, and
// pruning clears it away.
func TestWhatACrashLeavesOfASnapshot(t *testing.T) {
	js := startJetStream(t)
	openLog(t, js, 64<<20)
	s := openSnapshots(t, js)
	whole := finished(t, s, 1, "whole")
	unfinished(t, s, 2, "no", "description")
	// Power cuts keep no order between files: a description without its chunks.
	bare := finished(t, s, 3, "a", "b")
	stream, err := js.Stream(t.Context(), snapshotStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject("$O."+store.BucketSnapshots+".C."+bare.ID), jetstream.WithPurgeKeep(1)); err != nil {
		t.Fatal(err)
	}
	if l := list(t, s); len(l) != 2 || l[0].ID != bare.ID || l[1].ID != whole.ID {
		t.Fatalf("listed %+v, want those with a description", l)
	}
	if got := content(t, s, bare.ID); got != "b" {
		t.Errorf("what is left is %q", got)
	}
	other, err := store.OpenSnapshots(t.Context(), js, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Prune(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if err := s.Prune(t.Context(), bare.ID); err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
	if err != nil || info.State.Msgs != 2 || len(info.State.Subjects) != 2 {
		t.Errorf("left after pruning to one: %v, %v", info.State.Subjects, err)
	}
}

// A description is a witness without its object being read: one changed byte and it is
// nobody's.
func TestDamagedDescriptions(t *testing.T) {
	js := startJetStream(t)
	openLog(t, js, 64<<20)
	s := openSnapshots(t, js)
	whole := finished(t, s, 1, "whole")
	stream, err := js.Stream(t.Context(), snapshotStream)
	if err != nil {
		t.Fatal(err)
	}
	damaged := finished(t, s, 2, "damaged")
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), info.State.LastSeq)
	if err != nil {
		t.Fatal(err)
	}
	for i := range m.Data {
		changed := bytes.Clone(m.Data)
		changed[i] ^= 1
		if _, err := js.Publish(t.Context(), m.Subject, changed); err != nil {
			t.Fatal(err)
		}
		l := list(t, s)
		if len(l) != 2 {
			t.Fatalf("byte %d: listed %+v", i, l)
		}
		same := l[0].ID == damaged.ID && l[0].End == damaged.End && l[0].EndHash == damaged.EndHash
		if !same && (l[1].ID != damaged.ID || l[1].Err == nil || l[0].ID != whole.ID) {
			t.Fatalf("byte %d: listed %+v", i, l)
		}
	}
	if err := s.Prune(t.Context(), whole.ID); err != nil {
		t.Fatal(err)
	}
}

// A full bucket refuses: it does not drop the first chunks of what it has.
func TestSnapshotsFull(t *testing.T) {
	js := startJetStream(t)
	openLog(t, js, 40<<20) // 2 MiB of that
	s := openSnapshots(t, js)
	keep := finished(t, s, 1, "keep")
	big := string(make([]byte, 256<<10))
	half := store.NewSnapshot(0, 2)
	err := error(nil)
	for n := 0; err == nil; n++ {
		if n == 20 {
			t.Fatal("5 MiB fit into 2 MiB")
		}
		err = s.Append(t.Context(), &half, []byte(big))
	}
	if !errors.Is(err, store.ErrStorageFull) {
		t.Errorf("full: %v", err)
	}
	if got := content(t, s, keep.ID); got != "keep" {
		t.Errorf("what was there before is now %q", got)
	}
	if err := s.Prune(t.Context(), keep.ID); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		finished(t, s, 3, fmt.Sprint(i), big)
	}
}
