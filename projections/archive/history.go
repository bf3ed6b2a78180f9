package archive

import (
	"encoding/binary"
	"errors"
	"iter"
	"math"
	"slices"
	"strings"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// types is every type of event by its code in a chunk: an event's place here. It is only
// ever added to, at its end.
var types = []string{
	"account.opened", "account.updated", "account.suspended", "account.resumed", "account.closed",
	"account.environment_enabled", "account.environment_disabled", "account.products_set", "account.plan_set",
	"key.created", "key.imported", "key.updated", "key.disabled", "key.enabled", "key.rotated",
	"key.secret_retired", "key.revoked", "key.expiring", "key.expired",
	"credit.granted", "credit.debited", "credit.refunded", "credit.adjusted", "credit.transferred",
	"credit.expired", "credit.replenished", "credit.exchanged",
	"hold.placed", "hold.captured", "hold.released", "hold.expired",
	"balance.low", "balance.exhausted",
	"endpoint.registered", "endpoint.paused", "endpoint.resumed", "endpoint.disabled", "endpoint.removed",
	"endpoint.updated", "endpoint.secret_rotated", "endpoint.failing", "endpoint.tested", "endpoint.replayed",
}

// environments is every environment by its code, no environment among them.
var environments = []string{"", events.Test, events.Live}

// typeCode is the place of a type in types, moves how many balances an event of each type
// moves.
var typeCode, moves = func() (map[string]int, []int) {
	codes, counts := map[string]int{}, make([]int, len(types))
	for i, name := range types {
		codes[name] = i
		if kind := events.Lookup(name); kind != nil {
			_, counts[i] = events.Movements(kind.New())
		}
	}
	return codes, counts
}()

// Entry is one event of an account's history: where it is, and what can be told of it
// without the log.
type Entry struct {
	Position    events.Position
	Type        string // as in the catalog
	Environment string // "" where it is of the whole account
	// Assets are those of the balances it moves, of an exchange the one that was given
	// first; "" where there are fewer.
	Assets [2]string
}

// blockEntries is how many entries a block of a chunk has, but for the last. Who reads the
// newest, or what is behind a position, passes over whole blocks.
const blockEntries = 512

// history is the part that knows the places of each account's events.
//
// A chunk is the number of assets, their names behind their lengths, the number of blocks,
// of each by how much the sequence of its first entry is more than that of the block before
// and its length, and the blocks. An entry is by how much the sequence is more than that of
// the entry before, the index in the commit (within one commit by how much it is more),
// type * 3 + environment, and which of the assets each balance is that it moves. All numbers
// are varints.
type history map[string]*entries

// entries is a chunk that is being made.
type entries struct {
	assets   []string
	blocks   []block
	coded    []byte
	room     int    // entries that the last block has room for
	sequence uint64 // of the last entry
	index    int
}

// block is where a block begins.
type block struct {
	sequence uint64 // of its first entry
	offset   int
}

func openHistory() part { return history{} }

// add implements part.
func (h history) add(c *store.Commit, index int, e *events.Event) {
	list := h[e.Account]
	if list == nil {
		list = &entries{}
		h[strings.Clone(e.Account)] = list
	}
	entry := Entry{Type: e.Type, Environment: e.Environment}
	entry.Position = events.Position{Sequence: c.Sequence, Index: index}
	moved, n := events.Movements(e.Data)
	for i := range moved[:n] {
		entry.Assets[i] = moved[i].After.Asset
		entry.Environment = moved[i].After.Environment
	}
	list.add(&entry)
}

// accounts implements part.
func (h history) accounts() iter.Seq[string] {
	return func(yield func(string) bool) {
		for account := range h {
			if !yield(account) {
				return
			}
		}
	}
}

// append implements part.
func (h history) append(b []byte, account string) []byte {
	if list := h[account]; list != nil {
		return list.append(b)
	}
	return b
}

// add codes an entry, which is behind the last one.
func (l *entries) add(e *Entry) {
	p := e.Position
	if l.room == 0 {
		l.blocks = append(l.blocks, block{p.Sequence, len(l.coded)})
		l.room, l.sequence, l.index = blockEntries, p.Sequence, 0
	}
	l.room--
	index := p.Index
	if p.Sequence == l.sequence {
		index -= l.index
	}
	code := typeCode[e.Type]
	l.coded = binary.AppendUvarint(l.coded, p.Sequence-l.sequence)
	l.coded = binary.AppendUvarint(l.coded, uint64(index))
	l.coded = binary.AppendUvarint(l.coded, uint64(code*len(environments)+slices.Index(environments, e.Environment)))
	for _, asset := range e.Assets[:moves[code]] {
		l.coded = binary.AppendUvarint(l.coded, uint64(l.asset(asset)))
	}
	l.sequence, l.index = p.Sequence, p.Index
}

// asset returns which of the chunk's assets has a name.
func (l *entries) asset(name string) int {
	if i := slices.Index(l.assets, name); i >= 0 {
		return i
	}
	l.assets = append(l.assets, strings.Clone(name))
	return len(l.assets) - 1
}

// append appends the chunk.
func (l *entries) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(l.assets)))
	for _, name := range l.assets {
		b = binary.AppendUvarint(b, uint64(len(name)))
		b = append(b, name...)
	}
	b = binary.AppendUvarint(b, uint64(len(l.blocks)))
	before := uint64(0)
	for i := range l.blocks {
		end := len(l.coded)
		if i+1 < len(l.blocks) {
			end = l.blocks[i+1].offset
		}
		b = binary.AppendUvarint(b, l.blocks[i].sequence-before)
		b = binary.AppendUvarint(b, uint64(end-l.blocks[i].offset))
		before = l.blocks[i].sequence
	}
	return append(b, l.coded...)
}

// joinHistory is the join of the part.
func joinHistory(b []byte, chunks [][]byte) ([]byte, error) {
	var all entries
	for _, chunk := range chunks {
		for entry, err := range readHistory(chunk, &Filter{}) {
			if err != nil {
				return nil, err
			}
			all.add(&entry)
		}
	}
	return all.append(b), nil
}

// errChunk means that a chunk is not what its part makes.
var errChunk = errors.New("a chunk of the archive is not what was written")

// readHistory is the entries of a chunk, without their partition, in the order that a filter
// asks for. What the filter leaves out is told too, but for blocks that have nothing else. An
// error ends it.
func readHistory(chunk []byte, f *Filter) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		r := chunkReader{left: chunk}
		assets := make([]string, r.count())
		for i := range assets {
			assets[i] = r.text()
		}
		blocks := make([]block, r.count()+1) // and where the last one ends
		before := block{}
		for i := range blocks[1:] {
			blocks[i] = block{before.sequence + r.number(), before.offset}
			before = block{blocks[i].sequence, before.offset + int(min(r.number(), uint64(len(chunk))))}
		}
		blocks[len(blocks)-1] = block{math.MaxUint64, before.offset}
		if r.bad || before.offset != len(r.left) {
			yield(Entry{}, errChunk)
			return
		}
		for i := range blocks[1:] {
			if f.Newest {
				i = len(blocks) - 2 - i
			}
			from, to := blocks[i], blocks[i+1]
			if to.sequence < f.From.Sequence || f.To.Sequence != 0 && from.sequence > f.To.Sequence {
				continue
			}
			if !readBlock(r.left[from.offset:to.offset], from.sequence, assets, f.Newest, yield) {
				return
			}
		}
	}
}

// readBlock is readHistory of one block; false ends it.
func readBlock(b []byte, sequence uint64, assets []string, newest bool, yield func(Entry, error) bool) bool {
	var list []Entry // backwards
	r := chunkReader{left: b}
	e := Entry{Position: events.Position{Sequence: sequence}}
	for len(r.left) > 0 {
		r.entry(&e, assets)
		switch {
		case r.bad:
			yield(Entry{}, errChunk)
			return false
		case newest:
			list = append(list, e)
		case !yield(e, nil):
			return false
		}
	}
	for _, e := range slices.Backward(list) {
		if !yield(e, nil) {
			return false
		}
	}
	return true
}

// entry reads the entry behind e.
func (r *chunkReader) entry(e *Entry, assets []string) {
	ahead, index := r.number(), int(r.number())
	if ahead == 0 {
		index += e.Position.Index
	}
	e.Position.Sequence, e.Position.Index = e.Position.Sequence+ahead, index
	code := r.number()
	if code >= uint64(len(types)*len(environments)) {
		r.left, r.bad = nil, true
		return
	}
	kind := int(code) / len(environments)
	e.Type, e.Environment, e.Assets = types[kind], environments[int(code)%len(environments)], [2]string{}
	for i := range moves[kind] {
		which := r.number()
		if which >= uint64(len(assets)) {
			r.left, r.bad = nil, true
			return
		}
		e.Assets[i] = assets[which]
	}
}

// chunkReader reads numbers and texts. Once bad, it returns zeros and nothing is left.
type chunkReader struct {
	left []byte
	bad  bool
}

// number reads a varint.
func (r *chunkReader) number() uint64 {
	v, n := binary.Uvarint(r.left)
	if n <= 0 {
		r.left, r.bad = nil, true
		return 0
	}
	r.left = r.left[n:]
	return v
}

// count reads how many things follow, of at least one byte each.
func (r *chunkReader) count() int {
	n := r.number()
	if n > uint64(len(r.left)) {
		r.left, r.bad = nil, true
		return 0
	}
	return int(n)
}

// text reads bytes behind their length.
func (r *chunkReader) text() string {
	n := r.count()
	s := string(r.left[:n])
	r.left = r.left[n:]
	return s
}
