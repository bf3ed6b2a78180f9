package ledger

import "github.com/keyledger/keyledger/events"

// tokenParts is how many parts a token is counted in.
const tokenParts = 1000

// bucket is a token bucket, exact in whole numbers: its level is counted in thousandths
// of a token, which is what flows in per millisecond at one token a second. It is
// volatile: full after a restart, and no part of the log.
type bucket struct {
	missing int64       // thousandths of a token below full, at time at
	at      events.Time // when missing was right
}

// missingAt returns how much is missing at now. Time never goes back (commit time is
// monotone).
func (b *bucket) missingAt(r *events.Rate, now events.Time) int64 {
	missing := min(b.missing, r.Burst*tokenParts) // the plan's burst may have shrunk
	if elapsed := int64(now - b.at); elapsed < missing/r.PerSecond+1 {
		missing -= elapsed * r.PerSecond
	} else {
		missing = 0
	}
	return max(missing, 0)
}

// RateState is the rate member of a fresh answer: the burst, whole tokens left, and the
// milliseconds until the bucket is full.
type RateState struct {
	Limit     int64 `json:"limit"`
	Remaining int64 `json:"remaining"`
	ResetMS   int64 `json:"reset_ms"`

	missing int64 // as bucket has it
}

// rate is the state of the key's bucket at now, nil where there is no limit.
func (k *Key) rate(now events.Time) *RateState {
	plan := k.account.Plan
	if plan == nil || plan.Rate == nil {
		return nil
	}
	s := &RateState{missing: k.bucket.missingAt(plan.Rate, now)}
	s.set(plan.Rate)
	return s
}

// take is the state once a token more is missing.
func (s *RateState) take(r *events.Rate) {
	s.missing += tokenParts
	s.set(r)
}

func (s *RateState) set(r *events.Rate) {
	s.Limit = r.Burst
	s.Remaining = (r.Burst*tokenParts - s.missing) / tokenParts
	s.ResetMS = (s.missing + r.PerSecond - 1) / r.PerSecond
}
