package webhooks

import (
	"context"
	"strconv"
	"sync"

	"golang.org/x/sync/singleflight"

	"github.com/keyledger/keyledger/events/store"
)

// commitsKept is how many commits of the past are kept that were read last, of at most
// store.MaxCommitBytes each: of those that were read for one account mostly less.
const commitsKept = 64

// commitCache gives commits for deliveries. Those at the head come from the tail's memory. Of
// those of the past it keeps the last, for the deliveries of one commit come together, as
// they were read for one account; what several want at once is read once.
type commitCache struct {
	kept func(sequence uint64) *store.Commit // in the tail's memory, or nil
	read func(ctx context.Context, sequence uint64, account string) (*store.Commit, error)

	reading singleflight.Group

	mu   sync.Mutex              // guards what follows
	past [commitsKept]pastCommit // the oldest is replaced
	next int
}

// pastCommit is a commit as store.DecodeFor reads it for an account.
type pastCommit struct {
	account string
	*store.Commit
}

// get returns a commit with at least all that is an account's in it.
func (k *commitCache) get(ctx context.Context, sequence uint64, account string) (*store.Commit, error) {
	if c := k.kept(sequence); c != nil {
		return c, nil
	}
	if c := k.find(sequence, account); c != nil {
		return c, nil
	}
	c, err, _ := k.reading.Do(strconv.FormatUint(sequence, 10)+" "+account, func() (any, error) {
		if c := k.find(sequence, account); c != nil { // read since
			return c, nil
		}
		c, err := k.read(ctx, sequence, account)
		if err != nil {
			return nil, err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.past[k.next%commitsKept] = pastCommit{account, c}
		k.next++
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	return c.(*store.Commit), nil
}

// find looks for a commit among those that were read; nil if it is not there.
func (k *commitCache) find(sequence uint64, account string) *store.Commit {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.past {
		if p.Commit != nil && p.Sequence == sequence && p.account == account {
			return p.Commit
		}
	}
	return nil
}
