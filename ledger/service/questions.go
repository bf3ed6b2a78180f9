package service

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/keyledger/keyledger/events"
)

const (
	// maxQuestions is how many receivers are asked for an account at once, and in each minute
	// that follows: what an account registers is not for it to send requests to strangers.
	maxQuestions = 30
	// questionEvery is the time after which an account may ask once more.
	questionEvery = time.Minute / maxQuestions
	// maxAskers is how many accounts are remembered that asked within the last minute.
	maxAskers = 10_000
)

// questions counts what receivers are asked for each account. The zero value is ready.
type questions struct {
	mu     sync.Mutex
	of     map[string]*rate.Limiter // of those that have not all their questions again
	forgot time.Time
}

// take says 0 where an account may ask now, and else how long it has to wait.
func (q *questions) take(account string, now time.Time) (wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.of == nil {
		q.of = map[string]*rate.Limiter{}
	}
	if past := now.Sub(q.forgot); past >= time.Minute || past >= questionEvery && len(q.of) >= maxAskers {
		q.forget(now)
	}
	l := q.of[account]
	switch {
	case l == nil && len(q.of) >= maxAskers:
		return questionEvery
	case l == nil:
		l = rate.NewLimiter(rate.Every(questionEvery), maxQuestions)
		q.of[account] = l
	}
	if l.AllowN(now, 1) {
		return 0
	}
	return time.Duration((1 - l.TokensAt(now)) * float64(questionEvery))
}

// forget forgets the accounts that have asked nothing for long enough.
func (q *questions) forget(now time.Time) {
	q.forgot = now
	for account, l := range q.of {
		if l.TokensAt(now) >= maxQuestions {
			delete(q.of, account)
		}
	}
}

func errAskedTooOften(account string, wait time.Duration) *events.Error {
	seconds := int64(wait/time.Second) + 1
	return events.Errorf(events.LimitExceeded, "receivers of account %s were asked %d times for their consent in a short time, the most that is allowed; try again in %d s",
		account, maxQuestions, seconds).With("limit", maxQuestions).With("retry_after_seconds", seconds)
}
