package webhooks

import (
	"errors"
	"fmt"
	"testing"

	"github.com/keyledger/keyledger/events/store"
)

// Whoever reads the feed gets exactly the messages of the account in the range, each once and
// in order, however the range was read before: by a consumer that is still there, by a new
// one, or one by one; while more comes, and however many read. Few consumers are kept.
func TestStreamFeed(t *testing.T) {
	rng, r := random(t), newRig(t)
	var owner []int // of each message
	publish := func(n int) {
		account := rng.IntN(20)
		for range n {
			if rng.IntN(4) == 0 {
				account = rng.IntN(20)
			}
			owner = append(owner, account)
			subject := fmt.Sprintf("%saccount_%d.test.credit.debited.key_1", store.SubjectFeed(0), account)
			if _, err := r.js.PublishAsync(subject, fmt.Append(nil, len(owner))); err != nil {
				t.Fatal(err)
			}
		}
		<-r.js.PublishAsyncComplete()
	}
	publish(3000)
	f := &streamFeed{js: r.js}
	from := make([]uint64, 20)
	resumed := 0
	for range 600 {
		if rng.IntN(10) == 0 {
			publish(rng.IntN(50))
		}
		state, err := f.state(t.Context())
		if err != nil || len(f.idle) > feedReadings {
			t.Fatal(len(f.idle), err)
		}
		account, most := rng.IntN(20), 1+rng.IntN(60)
		if rng.IntN(3) > 0 {
			account = rng.IntN(3)
		}
		if rng.IntN(30) == 0 || from[account] == 0 {
			from[account] = 1 + rng.Uint64N(state.LastSeq)
		}
		to := min(state.LastSeq, from[account]+rng.Uint64N(1500))
		_, idle := f.resume(fmt.Sprint("account_", account), from[account])
		if f.keep(idle, nil); idle != nil {
			resumed++
		}
		from[account] = readExactly(t, f, owner, account, from[account], to, most)
	}
	if resumed < 50 || len(f.idle) > feedReadings {
		t.Errorf("%d readings went on with a consumer that was there; %d are idle", resumed, len(f.idle))
	}
	for _, r := range append([]*reading(nil), f.idle...) {
		f.drop(r)
	}
	if f.keep(nil, nil); len(f.idle) != 0 {
		t.Errorf("%d consumers are idle still", len(f.idle))
	}
}

// readExactly reads at most so many messages of an account from the feed, of whose messages
// the owners are known, and returns the place from which to read on.
func readExactly(t *testing.T, f *streamFeed, owner []int, account int, from, to uint64, most int) (next uint64) {
	t.Helper()
	next = from
	err := f.read(t.Context(), fmt.Sprint("account_", account), from, to, func(m *store.Scanned) error {
		if most == 0 {
			return errEnough
		}
		most--
		for next <= to && owner[next-1] != account {
			next++
		}
		if m.Sequence != next || string(m.Data) != fmt.Sprint(next) || m.Sequence > to {
			t.Fatalf("message %d: %s, want %d, from %d to %d", m.Sequence, m.Data, next, from, to)
		}
		next++
		return nil
	})
	if errors.Is(err, errEnough) {
		return next
	}
	if err != nil {
		t.Fatal(err)
	}
	for ; next <= to; next++ {
		if owner[next-1] == account {
			t.Fatalf("message %d is missing, from %d to %d", next, from, to)
		}
	}
	return to + 1
}
