package projections

import (
	"cmp"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"github.com/keyledger/keyledger/events"
)

// Limits of list queries.
const (
	defaultPage = 50
	maxPage     = 500
	// maxScanned is how many objects one list query looks at. A page whose filter
	// passes over more ends early, with a cursor to go on from.
	maxScanned = 10_000
)

// record is one object and where it stands in its list.
type record[V any] struct {
	id      string
	created events.Time
	value   V
}

// table holds the objects of one noun. A cursor says where the object that a page ended
// with stands in its list, so it is good for ever, also where the object has left.
type table[V any] struct {
	byID map[string]*record[V]
	// lists holds each owner's objects, oldest first, those of one moment by id.
	lists map[string][]*record[V]
	// leaves says that objects leave: a cursor may name one that is no longer there.
	leaves bool
}

func newTable[V any]() table[V] {
	return table[V]{byID: map[string]*record[V]{}, lists: map[string][]*record[V]{}}
}

// place returns the record called id, and makes it in owner's list where there is none.
// Objects come in the order of their creation, so a new one goes to the end of its list
// or close to it.
func (t *table[V]) place(owner, id string, created events.Time) *record[V] {
	if r := t.byID[id]; r != nil {
		return r
	}
	r := t.make(id, created)
	t.enlist(owner, r)
	return r
}

// make makes a record that stands in no list yet.
func (t *table[V]) make(id string, created events.Time) *record[V] {
	r := &record[V]{id: id, created: created}
	t.byID[id] = r
	return r
}

// enlist puts a record into owner's list.
func (t *table[V]) enlist(owner string, r *record[V]) {
	list := t.lists[owner]
	at := len(list)
	for at > 0 && compareRecords(list[at-1], r) > 0 {
		at--
	}
	t.lists[owner] = slices.Insert(list, at, r)
}

// remove takes an object out of its owner's list.
func (t *table[V]) remove(owner string, r *record[V]) {
	delete(t.byID, r.id)
	if i, found := slices.BinarySearchFunc(t.lists[owner], r, compareRecords[V]); found {
		t.lists[owner] = slices.Delete(t.lists[owner], i, i+1)
	}
}

func compareRecords[V any](a, b *record[V]) int {
	return cmp.Or(cmp.Compare(a.created, b.created), strings.Compare(a.id, b.id))
}

// page is the part of a list query's body that says which piece is wanted.
type page struct {
	Cursor string `json:"cursor"` // next_cursor of the page before; empty: from the start
	Limit  *int64 `json:"limit"`  // 1 to 500, default 50
}

// list returns a page of owner's objects that want keeps, and the cursor of the next
// page, nil where nothing follows.
func (t *table[V]) list(owner string, p *page, want func(V) bool) ([]V, *string, *events.Error) {
	limit := defaultPage
	if p.Limit != nil {
		if *p.Limit < 1 || *p.Limit > maxPage {
			return nil, nil, events.Errorf(events.InvalidArgument, "limit must be from 1 to %d", maxPage)
		}
		limit = int(*p.Limit)
	}
	list := t.lists[owner]
	start, err := t.after(list, p.Cursor)
	if err != nil {
		return nil, nil, err
	}
	out := []V{}
	var last *record[V]
	for i := start; i < len(list); i++ {
		r := list[i]
		if i-start == maxScanned {
			return out, cursorAt(list[i-1]), nil
		}
		if !want(r.value) {
			continue
		}
		if len(out) == limit {
			return out, cursorAt(last), nil
		}
		out, last = append(out, r.value), r
	}
	return out, nil, nil
}

// after returns the index in list behind the object the cursor names. Where objects never
// leave it must be in this very list: a cursor tells nothing about anybody else's.
func (t *table[V]) after(list []*record[V], cursor string) (int, *events.Error) {
	if cursor == "" {
		return 0, nil
	}
	if text, err := base64.RawURLEncoding.DecodeString(cursor); err == nil {
		created, id, _ := strings.Cut(string(text), " ")
		at, err := strconv.ParseInt(created, 10, 64)
		i, found := slices.BinarySearchFunc(list, &record[V]{id: id, created: events.Time(at)}, compareRecords[V])
		switch {
		case found:
			return i + 1, nil
		case err == nil && t.leaves:
			return i, nil
		}
	}
	return 0, events.Errorf(events.InvalidArgument, "cursor must be the next_cursor of an earlier page of the same list")
}

func cursorAt[V any](r *record[V]) *string {
	cursor := base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(int64(r.created), 10) + " " + r.id))
	return &cursor
}
