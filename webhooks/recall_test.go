package webhooks

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// sampleDirectory has an endpoint with nothing to do, and one with all there can be.
func sampleDirectory() *savedDirectory {
	one := &events.Endpoint{ID: "endpoint_1", Account: "acme", Environment: events.Test, URL: "https://example.com", Events: []string{"*"},
		Headers: []string{"x"}, Status: events.Active, Signing: "v1", CreatedAt: 7, SealedSecret: []byte{1, 2}, SealedHeaders: [][]byte{{3}}}
	two := &events.Endpoint{ID: "endpoint_2", Account: "other", Environment: events.Live, Events: []string{"key.*"}, Headers: []string{}, Status: events.Paused}
	before := &events.Endpoint{Environment: events.Live, Events: []string{"a.*", "b.c"}, Keys: []string{"key_1"}, Filters: jsontext.Value(`[{"exact":{"subject":"key_1"}}]`)}
	return &savedDirectory{
		at: store.Chain{Sequence: 50, Hash: store.Hash(bytes.Repeat([]byte{0xab}, 32)), Ordinal: 500, Epoch: 3, Time: 1_790_000_000_000},
		lanes: []savedLane{
			{subscriber: subscriber{account: "acme", registered: 5, endpoint: one, terms: (*terms)(nil).after(one), owed: 7, stride: 16, anchors: []place{{entry{6, 3, 1, 0}, (*terms)(nil).after(before)}, {entry{26, 4, 2, 0}, (*terms)(nil).after(one)}}}},
			{
				subscriber: subscriber{account: "other", registered: 40, endpoint: two, terms: (*terms)(nil).after(two), owed: 300, stride: 16, anchors: []place{{entry{41, 5, 1, 0}, (*terms)(nil).after(two)}}},
				open:       []entry{{100, 9, 11, 1}, {104, 10, 13, 2}},
				queue:      []place{{entry{200, 20, 30, 1}, (*terms)(nil).after(before)}},
				behind:     true, next: place{entry{300, 19, 31, 0}, (*terms)(nil).after(before)}, skipped: 99,
				groups:  []savedGroup{{7, 5, place{entry{250, 20, 30, 7}, (*terms)(nil).after(two)}}},
				replays: []*replay{{asked: 450, commit: 45, skipped: 99, terms: (*terms)(nil).after(before), request: &events.Replay{ID: "replay_1", Endpoint: "endpoint_2", From: "0:7", Events: []string{"key.*"}}}},
			},
		},
	}
}

// What was saved is read again, in the form that this version has: who changes it takes the
// next number for it.
func TestSavedDirectory(t *testing.T) {
	const golden = "4b4c5702" + "0032" + "abababababababababababababababababababababababababababababababab" + "f40303" + "80b083c59868" + "02"
	want := sampleDirectory()
	b := want.encode()
	if got := hex.EncodeToString(b); !strings.HasPrefix(got, golden) || len(b) != 539 {
		t.Errorf("%d bytes: %s", len(b), got)
	}
	got, err := decodeDirectory(b)
	if err != nil {
		t.Fatal(err)
	}
	same := cmp.Options{cmp.AllowUnexported(savedDirectory{}, savedLane{}, savedGroup{}, subscriber{}, place{}, entry{}, replay{}), cmp.Comparer((*terms).equal), cmpopts.EquateEmpty()}
	if diff := cmp.Diff(want, got, same); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A file that is damaged at any byte, cut short anywhere, or longer, is refused.
func TestDamagedDirectory(t *testing.T) {
	b := sampleDirectory().encode()
	for i := range b {
		for _, bits := range []byte{1, 0x80, 0xff} {
			b[i] ^= bits
			if _, err := decodeDirectory(b); err == nil {
				t.Errorf("byte %d changed by %x: read", i, bits)
			}
			b[i] ^= bits
		}
		if _, err := decodeDirectory(b[:i]); err == nil {
			t.Errorf("cut to %d bytes: read", i)
		}
	}
	if _, err := decodeDirectory(append(b, 0)); err == nil {
		t.Error("with a byte more: read")
	}
}

// What a lane that reads again already has open, it comes upon once more; so the file lists
// it from its place on only.
func TestDirectoryOfALaneThatReadsAgain(t *testing.T) {
	d := New(Config{})
	l := newLane(&subscriber{endpoint: &events.Endpoint{ID: "endpoint_1"}})
	l.restored, l.behind, l.next = 500, true, place{entry: entry{feed: 100, commit: 10, number: 7}}
	l.wait(&delivery{entry: entry{feed: 99, commit: 9, number: 6}})
	l.wait(&delivery{entry: entry{feed: 300, commit: 30, number: 20}})
	d.lanes["endpoint_1"] = l
	if s := d.takeDown(); !l.rereads() || len(s.lanes[0].open) != 1 || s.lanes[0].open[0].feed != 99 || s.lanes[0].next != l.next {
		t.Errorf("saved %+v", s.lanes[0])
	}
}

// served is a rig with an endpoint to which 20 events were delivered, and a directory that
// was saved at the stop.
func served(t *testing.T) (*rig, *receiver, string) {
	t.Helper()
	r := newRig(t)
	to := newReceiver(t, nil)
	r.commit(opened("acme"))
	r.add("endpoint_1", to)
	d := r.start()
	r.commit(debits(20)...)
	d.idle()
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	return r, to, filepath.Join(r.dir, store.FileDirectory(0))
}

// countingLog counts the commits that are read in ranges.
type countingLog struct {
	store.Log
	commits atomic.Int64
}

func (l *countingLog) Read(ctx context.Context, from, to uint64, f func(uint64, []byte) error) error {
	return l.Log.Read(ctx, from, to, func(sequence uint64, data []byte) error {
		l.commits.Add(1)
		return f(sequence, data)
	})
}

// startCounting starts a dispatcher and counts the commits that it reads for it. One is
// read to learn that the log is there.
func (r *rig) startCounting(change ...func(*Config)) (*run, int64) {
	r.t.Helper()
	log := &countingLog{Log: r.log}
	d := r.start(append(change, func(c *Config) {
		c.Tail = store.NewTail(log, 0)
		c.Tail.Reset(r.chain)
	})...)
	return d, log.commits.Load() - 1
}

// A start reads what came after the saved directory, also where that is nothing, and goes
// on with the same numbers.
func TestStartFromASavedDirectory(t *testing.T) {
	r, to, _ := served(t)
	for _, more := range []int64{0, 1, 5} {
		for range more {
			r.commit(debits(3)...)
		}
		d, n := r.startCounting()
		if n != more {
			t.Errorf("%d commits read, want %d", n, more)
		}
		d.idle()
		if err := d.end(); err != nil {
			t.Fatal(err)
		}
	}
	r.checkDelivered(to, "endpoint_1")
	if n := len(to.list()); n != 20+6*3 {
		t.Errorf("%d requests, want %d", n, 20+6*3)
	}
}

// A file that cannot be used is not: the whole log is read, with a warning, and nothing is
// sent twice. The next stop writes a good one over it.
func TestDirectoryThatIsNotUsed(t *testing.T) {
	change := func(f func(s *savedDirectory)) func(b []byte) []byte {
		return func(b []byte) []byte {
			s, err := decodeDirectory(b)
			if err != nil {
				panic(err)
			}
			f(s)
			return s.encode()
		}
	}
	for name, spoil := range map[string]func(b []byte) []byte{
		"empty":           func([]byte) []byte { return nil },
		"damaged":         func(b []byte) []byte { b[len(b)/2]++; return b },
		"newer version":   func(b []byte) []byte { b[3]++; return b },
		"ahead":           change(func(s *savedDirectory) { s.at.Sequence += 10 }),
		"another log":     change(func(s *savedDirectory) { s.at.Hash[0]++ }),
		"another number":  change(func(s *savedDirectory) { s.at.Ordinal++ }),
		"other partition": change(func(s *savedDirectory) { s.at.Partition++ }),
	} {
		t.Run(name, func(t *testing.T) {
			r, to, path := served(t)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, spoil(b), 0o600); err != nil {
				t.Fatal(err)
			}
			d, n := r.startCounting()
			if text := r.lines.String(); n != int64(r.chain.Sequence) || !strings.Contains(text, "is not used") || strings.Contains(text, goesOn) {
				t.Errorf("%d of %d commits read; %s", n, r.chain.Sequence, text)
			}
			r.commit(debits(1)...)
			if err := d.end(); err != nil {
				t.Fatal(err)
			}
			if _, n := r.startCounting(); n > 1 {
				t.Errorf("%d commits read at the next start", n)
			}
			to.requests(21)
			r.checkDelivered(to, "endpoint_1")
			if n := len(to.list()); n != 21 {
				t.Errorf("%d requests, want 21", n)
			}
		})
	}
}

// The commit that the last checkpoint has seen is looked at although the fold begins behind
// it.
func TestCheckpointOfAnotherLogBeforeTheDirectory(t *testing.T) {
	r, _, _ := served(t)
	c := r.saved()
	c.Hash[7]++
	if _, err := r.js.Publish(t.Context(), store.SubjectLanes(0), c.encode(checkpointBytesMax)); err != nil {
		t.Fatal(err)
	}
	if err := r.launch().result(); !errors.Is(err, ErrLoss) {
		t.Errorf("ended with %v, want a loss", err)
	}
}

// Who deletes the checkpoints wants everything sent again: then a saved directory does not
// count, and is gone before there are checkpoints again.
func TestDirectoryWithoutCheckpoints(t *testing.T) {
	r, to, path := served(t)
	if err := r.js.DeleteStream(t.Context(), store.StreamLanes(0)); err != nil {
		t.Fatal(err)
	}
	if err := store.CreateStreams(t.Context(), r.js, store.Streams(0, 1<<30)); err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	to.answers(func(http.ResponseWriter, *received, int) int { to.hold(gate); return http.StatusOK })
	d := r.start(seldom)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	close(gate)
	d.idle()
	if n := len(to.list()); n != 40 {
		t.Errorf("%d requests, want 40", n)
	}
}

var errStopped = errors.New("stopped")

// Stopped at any step of saving, a start finds the former directory or the new one, and
// nothing is sent twice or lost.
func TestStopWhileSavingTheDirectory(t *testing.T) {
	for _, at := range []string{stepWritten, stepSynced, stepRenamed} {
		t.Run(at, func(t *testing.T) {
			r, to, path := served(t)
			r.commit(debits(10)...)
			d := r.start(seldom)
			d.idle()
			d.step = func(step string) error { // the stop saves it
				if step == at {
					return errStopped
				}
				return nil
			}
			if err := d.end(); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(r.lines.String(), "cannot save the directory") {
				t.Error("nothing was logged")
			}
			temp := path + directoryTemp
			if _, err := os.Stat(temp); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the temporary file is left: %v", err)
			}
			if err := os.WriteFile(temp, []byte("KLW"), 0o600); err != nil { // as a crash leaves it
				t.Fatal(err)
			}
			want := int64(1)
			if at == stepRenamed {
				want = 0
			}
			d, n := r.startCounting()
			if n != want {
				t.Errorf("%d commits read, want %d", n, want)
			}
			if err := d.end(); err != nil {
				t.Fatal(err)
			}
			r.commit(debits(1)...)
			d = r.start()
			to.requests(31)
			d.idle()
			if err := d.end(); err != nil {
				t.Fatal(err)
			}
			r.checkDelivered(to, "endpoint_1")
			if n := len(to.list()); n != 31 {
				t.Errorf("%d requests, want 31", n)
			}
			files, err := os.ReadDir(filepath.Dir(path))
			if err != nil || len(files) != 1 {
				t.Errorf("left are %v, %v", files, err)
			}
		})
	}
}

// Where the volume has no room for a directory none is written, and the former one stays;
// once there is room it is.
func TestNoRoomForTheDirectory(t *testing.T) {
	r, _, path := served(t)
	former, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	full, asked := true, int64(0)
	d := r.start(seldom, func(c *Config) {
		c.Room = func(bytes int64) error {
			if asked = bytes; full {
				return errors.New("the volume is full")
			}
			return nil
		}
	})
	r.commit(debits(10)...)
	d.idle()
	d.keepDirectory()
	b, err := os.ReadFile(path)
	files, _ := os.ReadDir(filepath.Dir(path))
	if err != nil || !bytes.Equal(b, former) || len(files) != 1 || !strings.Contains(r.lines.String(), "the volume is full") {
		t.Errorf("with no room: %v, %d bytes, %d before; %d files", err, len(b), len(former), len(files))
	}
	full = false
	d.keepDirectory()
	if b, err := os.ReadFile(path); err != nil || bytes.Equal(b, former) || int64(len(b)) != asked {
		t.Errorf("with room: %v, %d bytes, asked for %d", err, len(b), asked)
	}
}
