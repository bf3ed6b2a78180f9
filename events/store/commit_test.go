package store_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// TestCommitRoundTrip: what is decoded is what was encoded. rapid prints the seed of a
// failure; -rapid.seed takes it back.
func TestCommitRoundTrip(t *testing.T) {
	from := samples(t)
	rapid.Check(t, func(t *rapid.T) {
		want, message := drawCommit(t, from)
		got, err := store.Decode(message)
		if err != nil {
			t.Fatal(err)
		}
		if !cmp.Equal(want, got) {
			t.Fatalf("decoded something else:\n%s", cmp.Diff(want, got))
		}
		if again := encode(got); !bytes.Equal(message, again) {
			t.Fatalf("encoded differently the second time")
		}
	})
}

// TestDecodeFor: for an account a commit has all that it has, but of other accounts' events
// neither subject nor data.
func TestDecodeFor(t *testing.T) {
	from := samples(t)
	rapid.Check(t, func(t *rapid.T) {
		want, message := drawCommit(t, from)
		account := "nobody"
		if n := len(want.Entries); n > 0 {
			if some := want.Entries[rapid.IntRange(0, n-1).Draw(t, "entry")].Account; some != "" {
				account = some
			}
		}
		for i := range want.Entries {
			for j := range want.Entries[i].Events {
				if e := &want.Entries[i].Events[j]; e.Account != account {
					e.Subject, e.Data = "", nil
				}
			}
		}
		got, err := store.DecodeFor(message, account)
		if err != nil {
			t.Fatal(err)
		}
		if !cmp.Equal(want, got) {
			t.Fatalf("decoded something else for %s:\n%s", account, cmp.Diff(want, got))
		}
	})
}

// TestCommitOfEverything has every type of event in one commit.
func TestCommitOfEverything(t *testing.T) {
	want := follow(store.Chain{Partition: 3, Sequence: 41, Ordinal: 1000}, 1)
	want.Entries[0].Events = samples(t)
	got, err := store.Decode(encode(want))
	if err != nil || !cmp.Equal(want, got) {
		t.Fatalf("%v\n%s", err, cmp.Diff(want, got))
	}
	if n := len(want.Entries[0].Events); n < len(events.Catalog) || got.EventCount() != n || got.End() != uint64(1000+n) || got.Sequence != 42 {
		t.Errorf("%d events up to %d at %d", got.EventCount(), got.End(), got.Sequence)
	}
	checkEach(t, got)
}

// checkEach: positions and ids count through the whole commit.
func checkEach(t *testing.T, c *store.Commit) {
	t.Helper()
	index := 0
	err := c.Each(func(e *events.CloudEvent) error {
		want := events.Position{Partition: c.Partition, Sequence: c.Sequence, Index: index}
		if e.Position != want || e.ID != events.EventID(c.Time, c.Nonce, index) || e.Time != c.Time || e.CommandID != c.Entries[0].CommandID {
			t.Errorf("event %d is %s %s at %s of %s", index, e.ID, e.Position, e.Time, e.CommandID)
		}
		index++
		return nil
	})
	if err != nil || index != c.EventCount() {
		t.Errorf("%d of %d events: %v", index, c.EventCount(), err)
	}
	if err := c.Each(func(*events.CloudEvent) error { return errStop }); err != errStop {
		t.Errorf("an error of f became %v", err)
	}
}

// TestEveryBitCounts: no byte of a commit can change and none can be missing or added.
func TestEveryBitCounts(t *testing.T) {
	c := follow(store.Chain{Sequence: 7, Ordinal: 3}, 2)
	c.Entries[0].Receipt, c.Entries[0].InputHash = true, store.Hash{1}
	c.Entries[0].Trace = sampleTrace
	message := encode(c)
	for i := range message {
		for bit := range 8 {
			changed := bytes.Clone(message)
			changed[i] ^= 1 << bit
			if _, err := store.Decode(changed); err == nil {
				t.Errorf("bit %d of byte %d changed, and it was decoded", bit, i)
			}
		}
		if _, err := store.Decode(message[:i]); err == nil {
			t.Errorf("cut to %d of %d bytes, and it was decoded", i, len(message))
		}
	}
	if _, err := store.Decode(append(message, 0)); err == nil {
		t.Error("one byte more, and it was decoded")
	}
}

// seal puts a body that Encode would not write behind the right hash.
func seal(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append(bytes.Clone(body), sum[:]...)
}

// TestDecodeRefuses: a matching hash alone is not trusted.
func TestDecodeRefuses(t *testing.T) {
	message := encode(follow(store.Chain{}, 1))
	body := message[:len(message)-len(store.Hash{})]
	newer := bytes.Clone(body)
	newer[3] = store.FormatVersion + 1
	newType := bytes.Replace(body, []byte("account.opened"), []byte("account.opxned"), 1)
	newOption := bytes.Clone(body)
	if at := bytes.Index(body, []byte("\x0caccount.open\x04acme")) - 1; newOption[at] != 0 {
		t.Fatalf("an entry's options do not stand before its command: %x", body)
	} else {
		newOption[at] = 4
	}
	newVersion := bytes.Replace(body, []byte("account.opened\x01"), []byte("account.opened\x02"), 1)
	for name, test := range map[string]struct {
		message []byte
		want    string
	}{
		"nothing":              {nil, "not a commit"},
		"another message":      {[]byte(strings.Repeat("x", 100)), "not a commit"},
		"a newer format":       {seal(newer), "format version 2 is not known"},
		"a newer option":       {seal(newOption), "an entry has options 0x4, not known to this keyledger: use a newer one"},
		"a newer event":        {seal(newType), `event type "account.opxned" version 1 is not known to this keyledger: use a newer one`},
		"a newer payload":      {seal(newVersion), `event type "account.opened" version 2 is not known to this keyledger: use a newer one`},
		"bytes behind the end": {seal(append(bytes.Clone(body), 0)), "1 bytes behind the last entry"},
		"an entry cut short":   {seal(body[:len(body)-1]), "entry 0: "},
	} {
		if _, err := store.Decode(test.message); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		} else if errors.Is(err, events.ErrNewer) != strings.Contains(name, "newer") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUnknownEventsNeverGetIn: an event without a line in the catalog would end the log
// for every reader.
func TestUnknownEventsNeverGetIn(t *testing.T) {
	defer func() {
		if text := fmt.Sprint(recover()); !strings.Contains(text, `event type "credit.invented" is not in the catalog`) {
			t.Errorf("AppendEntry: %s", text)
		}
	}()
	store.AppendEntry(nil, &store.Entry{Events: []events.Event{{Type: "credit.invented", Data: &events.Granted{}}}})
}
