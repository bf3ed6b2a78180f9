package store

import (
	"sort"

	"github.com/keyledger/keyledger/events"
)

// Until finds the last commit, of those up to a sequence, that is not later than a time: 0
// and nil where there is none. Commit time never goes back, so few are read, by get, whose
// error it returns.
func Until(end uint64, limit events.Time, get func(sequence uint64) (*Commit, error)) (sequence uint64, last *Commit, err error) {
	n := sort.Search(int(end), func(i int) bool {
		if err != nil {
			return true
		}
		var c *Commit
		if c, err = get(uint64(i) + 1); err != nil || c.Time > limit {
			return true
		}
		last = c // of those that are not later, the search asks for the last one last
		return false
	})
	if err != nil {
		return 0, nil, err
	}
	return uint64(n), last, nil
}
