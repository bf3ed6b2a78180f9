package access

import (
	"slices"
	"sync"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// How many cells are held in memory, those that wait to be stored among them. A cell
// takes about 400 bytes. One beyond is folded into the next kind; a request that finds no
// room at last is counted as dropped.
const (
	cellsMax        = 100_000 // of one key each
	accountCellsMax = 10_000  // of one account each, without a key
	nobodyCellsMax  = 1000    // of nobody: one for each code and minute
)

const minuteMS = 60_000

// Kinds of cells.
const (
	ofKey = iota
	ofAccount
	ofNobody
	kinds
)

// cell is a record that is being counted. Account, key, code, minute and id do not change
// any more; the rest is guarded by cells.mu.
type cell struct {
	Record
	kind int
	told bool // it stands in cells.used
}

// cellID names a cell in its minute. Key ids are the ledger's own: account and environment
// are left out beside one.
type cellID struct {
	account, environment, key string
	code                      events.Code
}

// minute is the cells of one minute.
type minute struct {
	at    events.Time
	cells map[cellID]*cell
	list  []*cell // in the order they were made, which is that of their ids
}

// cells counts requests.
type cells struct {
	limits [kinds]int

	mu      sync.Mutex // guards all below
	minutes []*minute  // the last is being filled
	sending []*cell    // of minutes that are over, not stored yet: all older than those
	held    [kinds]int // cells in both
	used    []*cell    // with a free use that nobody was told of
	folded  int64      // requests counted in a cell without their key
	dropped int64      // requests that are in no record, or in one that was never stored
}

func newCells() *cells { return &cells{limits: [kinds]int{cellsMax, accountCellsMax, nobodyCellsMax}} }

// observe counts one request. It allocates nothing but for a new cell, and for one more
// product in it.
func (c *cells) observe(r *Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.filling(r.Time - r.Time%minuteMS)
	found := c.place(m, r)
	if found == nil {
		c.dropped++
		return
	}
	found.product(r.Product)
	found.Count++
	if r.Time >= found.LastAt {
		found.LastAt, found.IP, found.Product, found.Access = r.Time, r.IP, r.Product, r.Access
	}
	if found.Outcome == Free && found.kind == ofKey && !found.told {
		found.told = true
		c.used = append(c.used, found)
	}
}

// filling is the minute that counts now. The time of commits does not go back, so a
// request never belongs to an earlier one.
func (c *cells) filling(at events.Time) *minute {
	if n := len(c.minutes); n > 0 && c.minutes[n-1].at >= at {
		return c.minutes[n-1]
	}
	m := &minute{at: at, cells: map[cellID]*cell{}}
	c.minutes = append(c.minutes, m)
	return m
}

// place finds a request's cell, or makes it where there is room: its key's, else its
// account's, else nobody's. It returns nil where there is no room at all.
func (c *cells) place(m *minute, r *Request) *cell {
	if r.Key != "" {
		if found := c.cell(m, ofKey, cellID{key: r.Key, code: r.Code}, r); found != nil {
			return found
		}
	}
	if r.Account == "" { // an unknown secret has no better place
		return c.cell(m, ofNobody, cellID{account: nobody, code: r.Code}, r)
	}
	found := c.cell(m, ofAccount, cellID{account: r.Account, environment: r.Environment, code: r.Code}, r)
	if found == nil {
		found = c.cell(m, ofNobody, cellID{account: nobody, code: r.Code}, r)
	}
	if found != nil {
		c.folded++
	}
	return found
}

// cell finds a cell, or makes it if there is room for its kind.
func (c *cells) cell(m *minute, kind int, id cellID, r *Request) *cell {
	if found := m.cells[id]; found != nil {
		return found
	}
	if c.held[kind] >= c.limits[kind] {
		return nil
	}
	made := &cell{kind: kind, Record: Record{
		Version: recordVersion, ID: ulid.Make(), Account: id.account, Environment: id.environment, Code: r.Code, Outcome: Refused, Minute: m.at,
		Product: r.Product,
	}}
	if kind == ofKey {
		made.Account, made.Environment, made.Key = r.Account, r.Environment, r.Key
	}
	if r.Code == events.OK {
		made.Outcome = Free
	}
	m.cells[id] = made
	m.list = append(m.list, made)
	c.held[kind]++
	return made
}

// finish makes the cells of minutes that had begun before a time wait to be stored: from
// now on they do not change.
func (c *cells) finish(before events.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.minutes) > 0 && (c.minutes[0].at < before || len(c.minutes) > 1) {
		c.sending = append(c.sending, c.minutes[0].list...)
		c.minutes = c.minutes[1:]
	}
}

// next is the oldest cells that wait to be stored, at most so many.
func (c *cells) next(most int) []*cell {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sending[:min(most, len(c.sending))]
}

// forget drops the oldest n cells that wait. lost says that they were never stored.
func (c *cells) forget(n int, lost bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, done := range c.sending[:n] {
		c.held[done.kind]--
		if lost {
			c.dropped += done.Count
		}
	}
	if c.sending = c.sending[n:]; len(c.sending) == 0 {
		c.sending = nil
	}
}

// uses returns some free uses that nobody was told of yet, at most so many.
func (c *cells) uses(most int) []Use {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(most, len(c.used))
	list := make([]Use, n)
	for i, used := range c.used[:n] {
		list[i], used.told = used.use(), false
	}
	if c.used = c.used[n:]; len(c.used) == 0 {
		c.used = nil
	}
	return list
}

// newest calls f for the cells that are held, newest first. The members that change must
// not be looked at; see copies. It returns the oldest cell's id, false where none is held.
func (c *cells) newest(f func(*cell)) (oldest ulid.ULID, held bool) {
	c.mu.Lock()
	lists := [][]*cell{c.sending}
	for _, m := range c.minutes {
		lists = append(lists, m.list)
	}
	c.mu.Unlock()
	// The lists only grow, and forget leaves what it drops in place.
	for _, list := range lists {
		if len(list) > 0 {
			oldest, held = list[0].ID, true
			break
		}
	}
	for i := len(lists) - 1; i >= 0; i-- {
		for j := len(lists[i]) - 1; j >= 0; j-- {
			f(lists[i][j])
		}
	}
	return oldest, held
}

// copies returns the records of cells as they are now.
func (c *cells) copies(list []*cell) []Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	records := make([]Record, len(list))
	for i := range list {
		records[i] = list[i].Record
		records[i].Products = slices.Clone(records[i].Products)
	}
	return records
}
