package ledger

import (
	"fmt"
	"time"

	"github.com/keyledger/keyledger/events"
)

// Limits of the notices before a key's expiry.
const (
	maxNotices = 5
	minNotice  = time.Millisecond // the resolution of the ledger's clock
	maxNotice  = 365 * 24 * time.Hour
)

// DefaultNotices is how long before a key's expiry key.expiring tells of it.
var DefaultNotices = []time.Duration{7 * 24 * time.Hour, 24 * time.Hour}

// CheckNotices says what is wrong with a list for State.Notices.
func CheckNotices(list []time.Duration) error {
	if len(list) > maxNotices {
		return fmt.Errorf("%d notices before a key's expiry, at most %d are allowed", len(list), maxNotices)
	}
	for _, n := range list {
		if n < minNotice || n > maxNotice {
			return fmt.Errorf("a notice before a key's expiry must be from %s to %dh", minNotice, int(maxNotice.Hours()))
		}
	}
	return nil
}

// next returns when time alone next brings about something of a key, 0 for never. Nothing
// more comes of a revoked key, nor of a closed account's.
func (k *Key) next(notices []time.Duration) events.Time {
	w := k.words.Value()
	if w.status == events.Revoked || k.account.Status == events.Closed {
		return 0
	}
	var at events.Time
	if k.expiresAt != 0 && !w.expired {
		at = k.expiresAt
		if notice := k.nextNotice(notices, 0); notice != 0 {
			at = k.expiresAt - events.Time(notice)
		}
	}
	return earlier(at, k.retires())
}

// nextNotice returns in milliseconds how long before the expiry the next notice is to
// come: the longest that was not given and whose time was not past when the expiry was
// set; at a time after 0, the shortest of those whose time has come. It is 0 for none.
func (k *Key) nextNotice(notices []time.Duration, now events.Time) (notice int64) {
	given, set := int64(0), k.createdAt // of an expiry that does not say when it was set
	if m := k.more; m != nil {
		given, set = m.notice, max(set, m.expirySetAt)
	}
	for _, n := range notices {
		ms := n.Milliseconds()
		at := k.expiresAt - events.Time(ms)
		switch {
		case given != 0 && ms >= given, at <= set:
		case now == 0:
			notice = max(notice, ms)
		case at <= now && (notice == 0 || ms < notice):
			notice = ms
		}
	}
	return notice
}

// happens is what has come of a key by now.
func (k *Key) happens(in *Input, notices []time.Duration) []events.Event {
	d := k.data()
	event := func(eventType string) []events.Event {
		return []events.Event{{Type: eventType, Account: in.AccountID, Environment: d.Environment, Subject: d.ID, Data: d}}
	}
	if at := k.retires(); at != 0 && at <= in.Time {
		d.OldHash, d.OldSecretUntil = [32]byte{}, 0
		return event("key.secret_retired")
	}
	if k.expiresAt <= in.Time {
		return event("key.expired")
	}
	d.Notice = k.nextNotice(notices, in.Time)
	return event("key.expiring")
}
