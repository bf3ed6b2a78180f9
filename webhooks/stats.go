package webhooks

import (
	"sync/atomic"
	"time"
)

// Refills counts, since the start, the readings for lanes that are behind.
type Refills struct {
	Feed   uint64 `json:"feed"`
	Log    uint64 `json:"log"`    // where the feed could not serve
	Failed uint64 `json:"failed"` // they come again
}

// CheckpointStats says how checkpoints of the lanes are doing.
type CheckpointStats struct {
	Written    uint64 `json:"written"`     // since the start
	Bytes      int64  `json:"bytes"`       // of the last
	DurationMS int64  `json:"duration_ms"` // of writing the last
	// AgeMS is how old the last is while something has changed since, else 0: what a crash
	// would repeat.
	AgeMS int64 `json:"age_ms"`
}

// counts are what is counted without Dispatcher.mu.
type counts struct {
	refillsFeed, refillsLog, refillsFailed atomic.Uint64

	checkpoints                     atomic.Uint64
	checkpointBytes, checkpointTook atomic.Int64
	checkpointAt                    atomic.Int64 // Unix milliseconds, 0 before the first
}

// refilled counts a reading.
func (c *counts) refilled(f *found, err error) {
	switch {
	case err != nil:
		c.refillsFailed.Add(1)
	case f.feed:
		c.refillsFeed.Add(1)
	default:
		c.refillsLog.Add(1)
	}
}

func (c *counts) refills() Refills {
	return Refills{Feed: c.refillsFeed.Load(), Log: c.refillsLog.Load(), Failed: c.refillsFailed.Load()}
}

// saved counts a checkpoint, of the time it shows, that was written.
func (c *counts) saved(bytes int, at time.Time, took time.Duration) {
	c.checkpoints.Add(1)
	c.checkpointBytes.Store(int64(bytes))
	c.checkpointTook.Store(took.Milliseconds())
	c.checkpointAt.Store(at.UnixMilli())
}

// checkpoint says how checkpoints are doing; changed: something is in none of them.
func (c *counts) checkpoint(now time.Time, changed bool) CheckpointStats {
	s := CheckpointStats{Written: c.checkpoints.Load(), Bytes: c.checkpointBytes.Load(), DurationMS: c.checkpointTook.Load()}
	if at := c.checkpointAt.Load(); at > 0 && changed {
		s.AgeMS = max(now.UnixMilli()-at, 0)
	}
	return s
}

// Phases are the values of Attempt.Phase but "", which stands for a whole answer.
var Phases = []Phase{PhaseSeal, PhaseGuard, PhaseDNS, PhaseConnect, PhaseTLS, PhaseWrite, PhaseHeaders, PhaseBody}
