package webhooks

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// A saved directory is a file (numbers are varints, as in events.Coder):
//
//	"KLW", format version (1 byte)
//	place     partition; sequence, hash (32 bytes), ordinal, epoch and time of the last
//	          commit that was folded
//	lanes     number of endpoints; of each, by registration: savedLane
//	SHA-256 of all that (32 bytes)
//
// It is derived from the log and may vanish.
const (
	directoryMagic   = "KLW"
	directoryVersion = 2
	directoryTemp    = ".tmp"
)

// savedDirectory is the directory after a commit, and how each lane stood.
type savedDirectory struct {
	at    store.Chain
	lanes []savedLane // by registration
}

// savedLane is an endpoint and what of it is not settled up to the place of the directory:
// open, queue, and, if the lane was behind, everything from next on. All that it was owed
// before and that is in neither list is settled, and so is everything up to skipped.
type savedLane struct {
	subscriber
	open    []entry // tried; by feed sequence
	queue   []place // not yet tried; likewise
	behind  bool
	next    place
	skipped uint64       // up to this feed sequence everything was jumped over
	replays []*replay    // that are not finished; how they stand only checkpoints say
	groups  []savedGroup // that withhold some, by name
}

// savedGroup is what a group withholds: so many deliveries of its from next on.
type savedGroup struct {
	name, more uint64
	next       place
}

// takeDown takes down the directory and the lanes. d.mu is held. What it returns shares
// only what never changes.
func (d *Dispatcher) takeDown() *savedDirectory {
	s := &savedDirectory{at: d.read, lanes: make([]savedLane, 0, len(d.lanes))}
	for _, l := range d.lanes {
		saved := savedLane{subscriber: *l.subscriber, behind: l.behind, next: l.next, skipped: l.skipped}
		saved.anchors = slices.Clone(l.anchors) // the fold goes on with its own
		for _, r := range l.replays {
			saved.replays = append(saved.replays, &replay{asked: r.asked, commit: r.commit, request: r.request, terms: r.terms, skipped: r.skipped})
		}
		for _, o := range l.open {
			if !l.behind || o.feed < l.next.feed { // else it is found again from next on
				saved.open = append(saved.open, o.entry)
			}
		}
		saved.queue = append(saved.queue, l.queue...)
		for name, g := range l.groups {
			if g.withholds() {
				saved.groups = append(saved.groups, savedGroup{name: name, more: uint64(len(g.held)) + g.more, next: g.first()})
			}
		}
		s.lanes = append(s.lanes, saved)
	}
	return s
}

// encode writes s.
func (s *savedDirectory) encode() []byte {
	s.sort()
	w := events.NewWriter(append([]byte(directoryMagic), directoryVersion))
	s.code(w)
	sum := sha256.Sum256(w.Bytes())
	return append(w.Bytes(), sum[:]...)
}

// decodeDirectory reads what encode writes, and nothing else.
func decodeDirectory(b []byte) (*savedDirectory, error) {
	content, ok := bytes.CutPrefix(b, []byte(directoryMagic))
	if !ok || len(content) <= sha256.Size {
		return nil, errors.New("it is not a directory of webhooks, or is cut short")
	}
	if content[0] != directoryVersion {
		return nil, fmt.Errorf("its format version %d is not known to this keyledger (it knows %d)", content[0], directoryVersion)
	}
	end := len(b) - sha256.Size
	if sum := sha256.Sum256(b[:end]); !bytes.Equal(sum[:], b[end:]) {
		return nil, errors.New("its hash does not match its content")
	}
	s, r := &savedDirectory{}, events.NewReader(content[1:len(content)-sha256.Size])
	if s.code(r); r.Err() != nil {
		return nil, r.Err()
	}
	if len(r.Bytes()) > 0 {
		return nil, fmt.Errorf("%d bytes stand behind its end", len(r.Bytes()))
	}
	return s, nil
}

func (s *savedDirectory) code(c *events.Coder) {
	partition := uint64(s.at.Partition)
	c.Uint(&partition)
	s.at.Partition = uint32(partition)
	c.Uint(&s.at.Sequence)
	c.Fixed(s.at.Hash[:])
	c.Uint(&s.at.Ordinal)
	c.Uint(&s.at.Epoch)
	c.Time(&s.at.Time)
	n := c.Len(len(s.lanes))
	if c.Reading() {
		s.lanes = make([]savedLane, n)
	}
	for i := range s.lanes {
		s.lanes[i].code(c)
	}
}

func (l *savedLane) code(c *events.Coder) {
	c.String(&l.account)
	c.Uint(&l.registered)
	c.Uint(&l.owed)
	if c.Reading() {
		l.endpoint = &events.Endpoint{}
	}
	c.Nested(l.endpoint)
	if c.Reading() {
		l.terms = l.terms.after(l.endpoint)
	}
	l.codeAnchors(c)
	c.Uint(&l.skipped)
	codeEntries(c, &l.open)
	last := codePlaces(c, l.terms, &l.queue)
	c.Bool(&l.behind)
	if l.behind {
		codePlace(c, place{terms: last}, &l.next)
	}
	n := c.Len(len(l.replays))
	if c.Reading() && n > 0 {
		l.replays = make([]*replay, n)
	}
	for i := range l.replays {
		if c.Reading() {
			l.replays[i] = &replay{request: &events.Replay{}}
		}
		l.replays[i].code(c, l.terms)
	}
	l.codeGroups(c)
}

// codeAnchors codes the places of the past, each by its distance from the one before.
func (s *subscriber) codeAnchors(c *events.Coder) {
	c.Uint(&s.stride)
	n := c.Len(len(s.anchors))
	if c.Reading() {
		s.anchors = make([]place, n)
	}
	before := place{terms: s.terms}
	for i := range s.anchors {
		a := &s.anchors[i]
		codeEntry(c, before.entry, &a.entry)
		a.terms = a.terms.code(c, before.terms)
		before = *a
	}
}

func (r *replay) code(c *events.Coder, before *terms) {
	c.Uint(&r.asked)
	c.Uint(&r.commit)
	c.Nested(r.request)
	c.Uint(&r.skipped)
	r.terms = r.terms.code(c, before)
}

func (l *savedLane) codeGroups(c *events.Coder) {
	n := c.Len(len(l.groups))
	if c.Reading() && n > 0 {
		l.groups = make([]savedGroup, n)
	}
	for i := range l.groups {
		g := &l.groups[i]
		c.Uint(&g.more)
		codePlace(c, place{terms: l.terms}, &g.next)
		g.name = g.next.group
	}
}

// codePlaces codes places that are ordered by feed sequence; latest are the terms of now. It
// returns those of the last place.
func codePlaces(c *events.Coder, latest *terms, list *[]place) *terms {
	n := c.Len(len(*list))
	if c.Reading() && n > 0 {
		*list = make([]place, n)
	}
	before := place{terms: latest}
	for i := range *list {
		codePlace(c, before, &(*list)[i])
		before = (*list)[i]
	}
	return before.terms
}

// codePlace codes a place by its distance from one before it.
func codePlace(c *events.Coder, before place, p *place) {
	codeEntry(c, before.entry, &p.entry)
	codeName(c, &p.group)
	p.terms = p.terms.code(c, before.terms)
}

// codeEntries codes entries that are ordered by feed sequence.
func codeEntries(c *events.Coder, list *[]entry) {
	n := c.Len(len(*list))
	if c.Reading() && n > 0 {
		*list = make([]entry, n)
	}
	var before entry
	for i := range *list {
		codeEntry(c, before, &(*list)[i])
		codeName(c, &(*list)[i].group)
		before = (*list)[i]
	}
}

// codeEntry codes an entry, but for its group, by its distance from one before it.
func codeEntry(c *events.Coder, before entry, e *entry) {
	feed, commit, number := e.feed-before.feed, e.commit-before.commit, e.number-before.number
	c.Uint(&feed)
	c.Uint(&commit)
	c.Uint(&number)
	*e = entry{feed: before.feed + feed, commit: before.commit + commit, number: before.number + number, group: e.group}
}

// readDirectory reads a file; its error wraps fs.ErrNotExist where there is none.
func readDirectory(path string) (*savedDirectory, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return decodeDirectory(b)
}

// Steps of writing the file, for tests that stop there.
const (
	stepWritten = "written"
	stepSynced  = "synced"
	stepRenamed = "renamed"
)

// writeDirectory replaces the file. Wherever it stops, a start finds the former file or the
// new one, whole: both are true of the log at their place.
func writeDirectory(path string, b []byte, step func(string) error) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path+directoryTemp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		_ = f.Close() // an error of the sync was told
		if err != nil {
			_ = os.Remove(path + directoryTemp) // it keeps no room that the log may need
		}
	}()
	// If we stop here: a temporary file, perhaps not whole, which nobody reads and the next
	// one replaces.
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := step(stepWritten); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	// If we stop here: likewise, and whole. Only what is on the disk gets the name.
	if err := step(stepSynced); err != nil {
		return err
	}
	if err := os.Rename(path+directoryTemp, path); err != nil {
		return err
	}
	// If we stop here: the new file is there, but a power cut may bring the former one back,
	// or none, where it was the first.
	if err := step(stepRenamed); err != nil {
		return err
	}
	return store.SyncDir(filepath.Dir(path))
}

// removeDirectory removes the file for good, if it is there.
func removeDirectory(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return store.SyncDir(filepath.Dir(path))
}
