package service

import (
	"context"
	"slices"
	"sync"

	"github.com/keyledger/keyledger/events"
)

// limits of a pool, in requests: how many run, and how many wait, of all accounts and of each.
// share is how many of an account may run, 0 for half of what may run.
type limits struct{ atOnce, queue, each, share int }

// most is how many of an account may run.
func (l limits) most() int {
	if l.share > 0 {
		return l.share
	}
	return l.atOnce / 2
}

// Limits of queries, whoever asks them, and of commands that do not go to the writer at once.
var (
	// quickLimits is of those that look into memory.
	quickLimits = limits{atOnce: 256, queue: 1024, each: 512}
	// readLimits is of those that read the log, streams or files. They are few: decisions
	// share the processor and the disk with them.
	readLimits = limits{atOnce: 4, queue: 128, each: 8}
	// waitLimits is of those that wait for a position.
	waitLimits = limits{atOnce: 1024}
	// commandLimits is of commands of the ledger itself: no flood of queries holds them up.
	commandLimits = limits{atOnce: 8, queue: 64, each: 64}
	// askLimits is of commands whose receiver is asked for its consent.
	askLimits = limits{atOnce: 64, queue: 256, each: 128, share: 4}
)

// pool bounds how many requests do one kind of thing at once, and how many of each account.
// Of those that wait the account comes first that has the fewest running, then who came first:
// however many accounts ask much, one that asks one thing waits for one of theirs at most.
type pool struct {
	limits
	what string // who does what, such as "queries are running"

	mu      sync.Mutex // guards all below
	running int
	queued  []*queued
	shares  map[string]*share // of accounts that have any
}

// share is how many of an account's requests run and wait.
type share struct{ running, queued int }

// queued is a request that waits. Ready closes when it may run.
type queued struct {
	account string
	ready   chan struct{}
}

func newPool(l limits, what string) *pool {
	return &pool{limits: l, what: what, shares: map[string]*share{}}
}

// enter returns when an account's request may run; leave must follow. It is Unavailable at
// once where too many wait already, or when ctx ends first.
func (p *pool) enter(ctx context.Context, account string) *events.Error {
	p.mu.Lock()
	s := p.shares[account]
	if s == nil {
		s = &share{}
		p.shares[account] = s
	}
	if p.fits(s) {
		p.run(s)
		p.mu.Unlock()
		return nil
	}
	var refused *events.Error
	switch {
	case s.queued >= p.each && s.running >= p.most():
		refused = events.Errorf(events.Unavailable, "too many of this account's %s; try again", p.what)
	case len(p.queued) >= p.queue || s.queued >= p.each:
		refused = events.Errorf(events.Unavailable, "too many %s; try again", p.what)
	}
	if refused != nil {
		p.forget(account, s)
		p.mu.Unlock()
		return refused
	}
	q := &queued{account, make(chan struct{})}
	p.queued = append(p.queued, q)
	s.queued++
	p.mu.Unlock()
	select {
	case <-q.ready:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.queued, q)
	if i < 0 {
		return nil // its turn came as well
	}
	p.queued = slices.Delete(p.queued, i, i+1)
	s.queued--
	p.forget(account, s)
	return events.Errorf(events.Unavailable, "many %s, and this one's turn did not come in time; try again", p.what)
}

// leave ends the run of an account's request.
func (p *pool) leave(account string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.shares[account]
	p.running--
	s.running--
	p.forget(account, s)
	for i := p.next(); i >= 0; i = p.next() {
		q := p.queued[i]
		p.queued = slices.Delete(p.queued, i, i+1)
		s := p.shares[q.account]
		s.queued--
		p.run(s)
		close(q.ready)
	}
}

// next is the index of the request whose turn it is, -1 for none. The caller holds mu, as of
// all below.
func (p *pool) next() int {
	best, fewest := -1, 0
	for i, q := range p.queued {
		s := p.shares[q.account]
		if p.fits(s) && (best < 0 || s.running < fewest) {
			best, fewest = i, s.running
		}
	}
	return best
}

// fits says whether one more of an account may run.
func (p *pool) fits(s *share) bool { return p.running < p.atOnce && s.running < p.most() }

func (p *pool) run(s *share) {
	p.running++
	s.running++
}

// forget forgets an account that has no request.
func (p *pool) forget(account string, s *share) {
	if *s == (share{}) {
		delete(p.shares, account)
	}
}

// turn is one query's way through the pools: it is in one at a time. It implements
// store.Turn.
type turn struct {
	s       *Service
	account string
	in      *pool // nil: in none
}

// Read implements store.Turn.
func (t *turn) Read(ctx context.Context) *events.Error { return t.enter(ctx, t.s.readers) }

// Wait implements store.Turn.
func (t *turn) Wait(ctx context.Context) *events.Error { return t.enter(ctx, t.s.waiting) }

func (t *turn) enter(ctx context.Context, p *pool) *events.Error {
	if t.in == p {
		return nil
	}
	t.end()
	err := p.enter(ctx, t.account)
	if err == nil {
		t.in = p
	}
	return err
}

// end leaves the pool that it is in.
func (t *turn) end() {
	if t.in != nil {
		t.in.leave(t.account)
		t.in = nil
	}
}
