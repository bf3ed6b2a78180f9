package archive

import (
	"cmp"
	"encoding/binary"
	"slices"
	"sync"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// A chunk of usage is blocks, one for each hour that has rows, in order. All numbers are
// varints as in Protocol Buffers, none is negative:
//
//	hour                since the block before, the first since 1970
//	series              how many are named here for the first time, and those, by name:
//	                    environment, key, product, asset, each a word
//	length              of the rows in bytes: who wants other hours passes over them
//	rows                by number of their series, which counts over the whole chunk
//
// A row is its series' number, less that of the row before and 1, times 8, and bits that
// say which of requests (1), spent (2) and refunded (4) follow; what does not is 0.
//
// A word is the number of one that stood before, from wordFirst on; or wordText with its
// length and bytes, or wordKey with the 16 bytes of a key's ULID: a new one. Which words
// a chunk begins with (usageWords) is a part of its form.
//
// The rows alone fix the bytes, however many chunks they came from.
const (
	wordText  = 0
	wordKey   = 1
	wordFirst = 2
)

// usageWords are known to every chunk.
var usageWords = []string{"", events.Test, events.Live, events.Credits}

// usageBits say what a row has.
const (
	hasRequests = 1 << iota
	hasSpent
	hasRefunded
	usageBits = iota
)

// usageWriter is what a chunk has named so far, and memory that is used again.
type usageWriter struct {
	words   map[string]uint64 // beside usageWords
	numbers map[series]uint64
	fresh   []series
	body    []byte
}

// usageWriters are at rest.
var usageWriters = sync.Pool{New: func() any { return &usageWriter{words: map[string]uint64{}, numbers: map[series]uint64{}} }}

// appendUsage appends a chunk of rows, nothing where there are none.
func appendUsage(b []byte, rows *usageRows) []byte {
	w := usageWriters.Get().(*usageWriter)
	list, last := rows.sorted(), int64(0)
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].hour == list[0].hour {
			n++
		}
		b = binary.AppendUvarint(b, uint64(list[0].hour-last))
		last = list[0].hour
		b = w.hour(b, list[:n])
		list = list[n:]
	}
	if len(w.words) <= usageIndexed { // larger maps would take long to clear each time
		clear(w.words)
		clear(w.numbers)
		clear(w.fresh[:cap(w.fresh)])
		usageWriters.Put(w)
	}
	return b
}

// hour appends the rest of a block.
func (w *usageWriter) hour(b []byte, list []usageRow) []byte {
	w.fresh, w.body = w.fresh[:0], w.body[:0]
	for i := range list {
		if _, named := w.numbers[list[i].series]; !named {
			w.fresh = append(w.fresh, list[i].series)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(w.fresh)))
	for _, s := range w.fresh {
		w.numbers[s] = uint64(len(w.numbers))
		for _, text := range []string{s.environment, s.key, s.product, s.asset} {
			b = w.word(b, text)
		}
	}
	slices.SortFunc(list, func(a, b usageRow) int { return cmp.Compare(w.numbers[a.series], w.numbers[b.series]) })
	next := uint64(0)
	for i := range list {
		number := w.numbers[list[i].series]
		w.body = appendRow(w.body, number-next, &list[i].UsageSums)
		next = number + 1
	}
	return append(binary.AppendUvarint(b, uint64(len(w.body))), w.body...)
}

func (w *usageWriter) word(b []byte, text string) []byte {
	if i := slices.Index(usageWords, text); i >= 0 {
		return binary.AppendUvarint(b, uint64(wordFirst+i))
	}
	if number, ok := w.words[text]; ok {
		return binary.AppendUvarint(b, number)
	}
	w.words[text] = uint64(wordFirst + len(usageWords) + len(w.words))
	if id, ok := keyULID(text); ok {
		return append(append(b, wordKey), id[:]...)
	}
	b = binary.AppendUvarint(append(b, wordText), uint64(len(text)))
	return append(b, text...)
}

// keyULID is the ULID of a key's id, where that is all there is to it.
func keyULID(text string) (ulid.ULID, bool) {
	if len(text) != len(keyIDPrefix)+ulid.EncodedSize || text[:len(keyIDPrefix)] != keyIDPrefix {
		return ulid.ULID{}, false
	}
	id, err := ulid.ParseStrict(text[len(keyIDPrefix):])
	return id, err == nil && id.String() == text[len(keyIDPrefix):]
}

func appendRow(b []byte, skip uint64, sums *UsageSums) []byte {
	list := [usageBits]int64{sums.Requests, sums.Spent, sums.Refunded}
	head := skip << usageBits
	for i, n := range list {
		if n != 0 {
			head |= 1 << i
		}
	}
	b = binary.AppendUvarint(b, head)
	for _, n := range list {
		if n != 0 {
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	return b
}

// usageReader reads a chunk.
type usageReader struct {
	chunkReader
	words  []string
	series []series
}

// hoursMax is the last hour of the year 9999.
const hoursMax = 253402300799999 / HourMS

// readUsage calls f for the rows of a chunk whose hours begin at from or later, and
// before to, by hour. The row is f's until it returns; its strings are f's to keep. An
// error is f's or errChunk.
func readUsage(chunk []byte, from, to events.Time, f func(*UsageRow) error) error {
	r := usageReader{chunkReader: chunkReader{left: chunk}, words: slices.Clone(usageWords)}
	for hour := uint64(0); len(r.left) > 0; {
		ahead := r.number()
		if ahead > hoursMax-hour {
			return errChunk
		}
		hour += ahead
		for range r.count() {
			r.define()
		}
		n := r.count()
		body := usageReader{chunkReader: chunkReader{left: r.left[:n]}, series: r.series}
		r.left = r.left[n:]
		at := events.Time(hour * HourMS)
		switch {
		case r.bad:
			return errChunk
		case at >= to:
			return nil
		case at < from:
			continue
		}
		if err := body.rows(at, f); err != nil {
			return err
		}
	}
	return nil
}

// define reads the names of a series.
func (r *usageReader) define() {
	if !r.bad {
		r.series = append(r.series, series{r.word(), r.word(), r.word(), r.word()})
	}
}

func (r *usageReader) word() (text string) {
	n := r.number()
	switch {
	case n == wordText:
		text = r.text()
	case n == wordKey && len(r.left) >= len(ulid.ULID{}):
		text = keyIDPrefix + ulid.ULID(r.left[:len(ulid.ULID{})]).String()
		r.left = r.left[len(ulid.ULID{}):]
	case n >= wordFirst && n-wordFirst < uint64(len(r.words)):
		return r.words[n-wordFirst]
	default:
		r.left, r.bad = nil, true
	}
	r.words = append(r.words, text)
	return text
}

// rows reads the rows of an hour.
func (r *usageReader) rows(hour events.Time, f func(*UsageRow) error) error {
	number, row := uint64(0), UsageRow{Hour: hour}
	for ; len(r.left) > 0; number++ {
		head := r.number()
		var sums [usageBits]int64
		for i := range sums {
			if head&(1<<i) != 0 {
				sums[i] = int64(r.number())
				r.bad = r.bad || sums[i] < 0
			}
		}
		number += head >> usageBits
		if r.bad || number >= uint64(len(r.series)) {
			return errChunk
		}
		s := &r.series[number]
		row.Environment, row.Key, row.Product, row.Asset = s.environment, s.key, s.product, s.asset
		row.UsageSums = UsageSums{sums[0], sums[1], sums[2]}
		if err := f(&row); err != nil {
			return err
		}
	}
	return nil
}
