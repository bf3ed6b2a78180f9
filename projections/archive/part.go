// Package archive keeps by account what grows with the log and is asked for by account: in
// immutable files, each a pure function of a fixed span of the log, and not in memory.
package archive

import (
	"iter"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// part is one kind of what segments hold of each account. A part collects what one segment
// says: it is made anew with each, gets every event of the segment's span and is asked for a
// chunk of every account. It must be a pure function of the events it got: the same span of
// the log gives the same bytes.
//
// The archive calls add alone; the others may be called by several at once, but never
// while add runs.
type part interface {
	// add takes one event. Index is its place in the commit, over all entries. The commit
	// is shared: what is kept of it is copied, strings too, for they pin the commit.
	add(c *store.Commit, index int, e *events.Event)
	// accounts is every account that there is a chunk of, in any order.
	accounts() iter.Seq[string]
	// append appends the chunk of an account to b, nothing where there is none. A chunk
	// stands for itself: it is read without the segment it was made for.
	append(b []byte, account string) []byte
}

// kind is a line of the table of parts.
type kind struct {
	name string
	open func() part // of a segment that begins
	// join appends one chunk to b that says what successive chunks of one account say
	// together, oldest first. It is called when segments are merged, for chunks that are
	// joinBytesMax together at most; larger ones stay side by side. An error means that a
	// chunk is not what append makes.
	join func(b []byte, chunks [][]byte) ([]byte, error)
}

// kinds is every part, in the order in which they stand in a segment. Whoever adds one, or
// changes what a chunk looks like, raises formatVersion: segments are then made again.
var kinds = [...]kind{
	historyPart: {name: "history", open: openHistory, join: joinHistory},
	usagePart:   {name: "usage", open: openUsage, join: joinUsage},
}

// historyPart is the index of each part in kinds.
const (
	historyPart = iota
	usagePart
)

// joinBytesMax is up to how many bytes chunks are joined into one when segments are merged.
const joinBytesMax = 64 << 10
