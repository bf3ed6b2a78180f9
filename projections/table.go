package projections

import (
	"cmp"
	"encoding/base64"
	"slices"
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

// table holds the objects of one noun. Nothing ever leaves it, so an id is a good cursor
// for ever.
type table[V any] struct {
	byID map[string]*record[V]
	// lists holds each owner's objects, oldest first, those of one moment by id.
	lists map[string][]*record[V]
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
	r := &record[V]{id: id, created: created}
	t.byID[id] = r
	list := t.lists[owner]
	at := len(list)
	for at > 0 && compareRecords(list[at-1], r) > 0 {
		at--
	}
	t.lists[owner] = slices.Insert(list, at, r)
	return r
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
			return out, cursorAt(list[i-1].id), nil
		}
		if !want(r.value) {
			continue
		}
		if len(out) == limit {
			return out, cursorAt(last.id), nil
		}
		out, last = append(out, r.value), r
	}
	return out, nil, nil
}

// after returns the index in list behind the object the cursor names. It must be in this
// very list: a cursor tells nothing about anybody else's.
func (t *table[V]) after(list []*record[V], cursor string) (int, *events.Error) {
	if cursor == "" {
		return 0, nil
	}
	if id, err := base64.RawURLEncoding.DecodeString(cursor); err == nil {
		if r := t.byID[string(id)]; r != nil {
			if i, ok := slices.BinarySearchFunc(list, r, compareRecords[V]); ok {
				return i + 1, nil
			}
		}
	}
	return 0, events.Errorf(events.InvalidArgument, "cursor must be the next_cursor of an earlier page of the same list")
}

func cursorAt(id string) *string {
	cursor := base64.RawURLEncoding.EncodeToString([]byte(id))
	return &cursor
}
