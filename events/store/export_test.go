package store_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

var testHeader = store.ExportHeader{
	Ledger: "01J8Z5T0XKQ4R7N2M3V6W9Y1AB", Partitions: 1, SealKey: "0a0b0c0d", Time: 1_767_225_600_000, Program: "keyledger test",
}

// messages are n commits as they are stored.
func messages(n int) (list [][]byte, end store.Chain) {
	for i := range n {
		c := follow(end, 1+i%3)
		list = append(list, encode(c))
		end = store.ChainAt(c)
	}
	return list, end
}

// export writes an export of messages.
func export(t testing.TB, list [][]byte, beside store.ExportBeside, compress bool) []byte {
	t.Helper()
	var file bytes.Buffer
	header := testHeader
	header.End = uint64(len(list))
	w, err := store.NewExportWriter(&file, header, beside, compress)
	if err != nil {
		t.Fatal(err)
	}
	for i, data := range list {
		if _, err := w.Add(uint64(i)+1, data); err != nil {
			t.Fatal(err)
		}
	}
	n, sum, err := w.Close()
	if err != nil || n != int64(file.Len()) || sum != store.Hash(sha256.Sum256(file.Bytes())) {
		t.Fatalf("closed with %d bytes, %s, %v", n, sum, err)
	}
	return file.Bytes()
}

var lanes, signed = []byte("how webhooks stand"), []byte("what was signed")

// imported is what an export gives out.
type imported struct {
	beside store.ExportBeside
	list   [][]byte
	end    store.Chain
	err    error
}

func read(file []byte) (got imported) {
	r, err := store.OpenExport(bytes.NewReader(file))
	if err != nil {
		got.err = err
		return got
	}
	got.err = r.Each(func(b store.ExportBeside) error { got.beside = b; return nil }, func(_ *store.Commit, b []byte) error {
		got.list = append(got.list, b)
		return nil
	})
	got.end = r.End()
	return got
}

// What an export gives out is what was written, whatever its length and form.
func TestExportGivesBackWhatWasWritten(t *testing.T) {
	for _, n := range []int{0, 1, 2, 100, 6000} { // 6000: more than a block
		list, end := messages(n)
		for _, compress := range []bool{false, true} {
			for _, beside := range []store.ExportBeside{{}, {Lanes: lanes}, {Signed: signed}, {Lanes: lanes, Signed: signed}} {
				file := export(t, list, beside, compress)
				got := read(file)
				if got.err != nil || got.end != end || !reflect.DeepEqual(got.beside, beside) || !slices.EqualFunc(got.list, list, bytes.Equal) {
					t.Fatalf("%d commits, compressed %t: %d came back, %q, %+v, %v", n, compress, len(got.list), got.beside, got.end, got.err)
				}
			}
		}
	}
}

// The longest commits fit, also where one ends a block that is all but full.
func TestExportOfTheLongestCommits(t *testing.T) {
	var list [][]byte
	var end store.Chain
	for range 12 {
		c := follow(end, 1)
		c.Entries[0].Events[0].Data = &events.Account{ID: "acme", Name: string(bytes.Repeat([]byte("x"), store.MaxCommitBytes-400))}
		list, end = append(list, encode(c)), store.ChainAt(c)
	}
	if got := read(export(t, list, store.ExportBeside{}, false)); got.err != nil || got.end != end {
		t.Errorf("%+v, %v", got.end, got.err)
	}
}

// offsets are where each commit ends in a plain export whose commits are one block.
func offsets(file []byte, list [][]byte) []int {
	at := bytes.Index(file, list[0])
	ends := make([]int, len(list))
	for i, data := range list {
		if i > 0 {
			at += len(binary.AppendUvarint(nil, uint64(len(data))))
		}
		at += len(data)
		ends[i] = at
	}
	return ends
}

// firstBad is the position that is to be named when the byte at offset i is wrong.
func firstBad(ends []int, i int) uint64 {
	for n, end := range ends {
		if i < end {
			return uint64(n) + 1
		}
	}
	return uint64(len(ends)) + 1
}

// A file cut at any byte, with any byte changed, or with one more, is refused; the first
// bad position is named.
func TestExportRefusesAnyOtherFile(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	list, _ := messages(7)
	for _, compress := range []bool{false, true} {
		file := export(t, list, store.ExportBeside{Lanes: lanes, Signed: signed}, compress)
		ends := offsets(export(t, list, store.ExportBeside{Lanes: lanes, Signed: signed}, false), list)
		check := func(what string, i int, changed []byte) {
			t.Helper()
			var bad *store.ExportError
			got := read(changed)
			if !errors.As(got.err, &bad) {
				if i < 3 && got.err != nil {
					return // the magic: it is no export
				}
				t.Fatalf("compressed %t: %s at %d: %v", compress, what, i, got.err)
			}
			if want := firstBad(ends, i); !compress && i > bytes.Index(file, list[0]) && bad.Sequence != want {
				t.Fatalf("%s at %d: %v, want position %d", what, i, bad, want)
			}
			if len(got.list) >= int(bad.Sequence) {
				t.Fatalf("%s at %d: gave out %d commits and then named %d", what, i, len(got.list), bad.Sequence)
			}
		}
		for i := range file {
			check("cut", i, file[:i])
			changed := bytes.Clone(file)
			changed[i] ^= 1 << random.IntN(8)
			check("flipped", i, changed)
		}
		check("a byte more", len(file), append(bytes.Clone(file), 0))
	}
}

// What is no export, of a newer version, or whole and yet not what its header says.
func TestExportRefusals(t *testing.T) {
	list, _ := messages(3)
	file := export(t, list, store.ExportBeside{}, false)
	newer := bytes.Clone(file)
	newer[3] = store.ExportVersion + 1
	huge := append(bytes.Clone(file[:4]), 'H', 0xff, 0xff, 0xff, 0x7f)
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"not one": {[]byte("KLC and something else"), "not an export of a ledger: it does not begin with KLX"},
		"newer":   {newer, "export cannot be read from 0:1 on: export format version 2 is not known to this keyledger (it knows 1): use a newer one"},
		"huge":    {huge, "export damaged at 0:1: a block of 2147483647 bytes, 1311744 are the most; take another copy of it, or export again"},
		"empty":   {nil, "export damaged at 0:1: the file is cut off there; take another copy of it, or export again"},
	} {
		if got := read(c.file); got.err == nil || got.err.Error() != c.want {
			t.Errorf("%s: %v", name, got.err)
		}
	}
	header := testHeader
	header.End = 3
	w, err := store.NewExportWriter(new(bytes.Buffer), header, store.ExportBeside{}, false)
	if err != nil {
		t.Fatal(err)
	}
	var damage *store.DamageError
	if _, err := w.Add(2, list[1]); !errors.As(err, &damage) || damage.Sequence != 1 {
		t.Errorf("the second commit first: %v", err)
	}
	if _, err := w.Add(1, list[0]); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Close(); !errors.As(err, &damage) || damage.Sequence != 2 {
		t.Errorf("closed after one of three: %v", err)
	}
}

// A Filler writes the log that was exported; what does not fit is an error that says which.
func TestFiller(t *testing.T) {
	js := startJetStream(t)
	log := openLog(t, js, 64<<20)
	filler, err := store.NewFiller(js.Conn(), 0)
	if err != nil {
		t.Fatal(err)
	}
	list, end := messages(300) // more than are under way at once
	for _, data := range list {
		if err := filler.Append(t.Context(), data); err != nil {
			t.Fatal(err)
		}
	}
	if err := filler.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	chain := store.Chain{}
	if err := store.ReadChecked(t.Context(), log, &chain, 300, func(*store.Commit) error { return nil }); err != nil || chain != end {
		t.Errorf("the log ends at %+v, %v", chain, err)
	}
	second, err := store.NewFiller(js.Conn(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err = second.Append(t.Context(), list[0]); err == nil {
		err = second.Flush(t.Context())
	}
	if !errors.Is(err, store.ErrConflict) {
		t.Errorf("filling a log that is not empty: %v", err)
	}
}

// A Filler says that the log is full, and stores nothing behind what did not fit.
func TestFillerOnAFullLog(t *testing.T) {
	js := startJetStream(t)
	config := store.Streams(0, 64<<20)[0]
	config.MaxBytes = 20 << 10
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	filler, err := store.NewFiller(js.Conn(), 0)
	if err != nil {
		t.Fatal(err)
	}
	list, _ := messages(300)
	for _, data := range list {
		if err = filler.Append(t.Context(), data); err != nil {
			break
		}
	}
	if !errors.Is(err, store.ErrStorageFull) {
		t.Fatalf("filled a log of 20 KiB: %v", err)
	}
	var stream jetstream.Stream
	if stream, err = js.Stream(t.Context(), config.Name); err != nil {
		t.Fatal(err)
	}
	if state := stream.CachedInfo().State; state.Msgs != state.LastSeq || state.Msgs == 0 || state.Msgs >= 300 {
		t.Errorf("the log holds %d messages up to %d", state.Msgs, state.LastSeq)
	}
}

// FuzzReadExport: whatever a file holds, reading it ends, and what is accepted is written
// the same again.
func FuzzReadExport(f *testing.F) {
	list, _ := messages(3)
	f.Add(export(f, list, store.ExportBeside{Lanes: lanes, Signed: signed}, true))
	f.Add(export(f, list, store.ExportBeside{}, false))
	f.Add([]byte("KLX\x01Z00\x00\x00")) // commits before the header
	f.Fuzz(func(t *testing.T, file []byte) {
		got := read(file)
		var bad *store.ExportError
		switch {
		case got.err != nil && errors.As(got.err, &bad) && len(got.list) >= int(bad.Sequence):
			t.Fatalf("gave out %d commits and then said %v", len(got.list), got.err)
		case got.err == nil && uint64(len(got.list)) != got.end.Sequence:
			t.Fatalf("%d commits up to %d", len(got.list), got.end.Sequence)
		}
	})
}

// BenchmarkExport writes and reads an export of small commits.
func BenchmarkExport(b *testing.B) {
	list, _ := messages(10_000)
	size := 0
	for _, data := range list {
		size += len(data)
	}
	for name, compress := range map[string]bool{"plain": false, "zstd": true} {
		file := export(b, list, store.ExportBeside{}, compress)
		b.Run("write/"+name, func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				export(b, list, store.ExportBeside{}, compress)
			}
			b.ReportMetric(float64(len(file))/float64(len(list)), "bytes/commit")
			b.ReportMetric(float64(b.N*len(list))/b.Elapsed().Seconds(), "commits/s")
		})
		b.Run("read/"+name, func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				if got := read(file); got.err != nil {
					b.Fatal(got.err)
				}
			}
			b.ReportMetric(float64(b.N*len(list))/b.Elapsed().Seconds(), "commits/s")
		})
	}
}
