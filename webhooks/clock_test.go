package webhooks

import (
	"sync"
	"time"
)

// clock is a clock that a test moves.
type clock struct {
	mu      sync.Mutex // guards what follows
	t       time.Time
	pending map[*alarm]bool
}

type alarm struct {
	at    time.Time
	fired chan time.Time
}

func newClock(at time.Time) *clock {
	return &clock{t: at.Truncate(time.Millisecond), pending: map[*alarm]bool{}}
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) timer(at time.Time) (<-chan time.Time, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := &alarm{at: at, fired: make(chan time.Time, 1)}
	c.pending[a] = true
	c.fire()
	return a.fired, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.pending, a)
	}
}

// fire must be called with mu held.
func (c *clock) fire() {
	for a := range c.pending {
		if !a.at.After(c.t) {
			a.fired <- c.t
			delete(c.pending, a)
		}
	}
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
	c.fire()
}
