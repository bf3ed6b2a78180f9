package archive

import (
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/oklog/ulid/v2"
	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// usedKey makes the id of a key.
func usedKey(n byte) string { return keyIDPrefix + ulid.ULID{1, 2, 3, 15: n}.String() }

// drawMovement draws an event of one of two accounts: one that counts as usage, or one
// that does not.
func drawMovement(t *rapid.T) events.Event {
	environment := rapid.SampledFrom([]string{events.Test, events.Live}).Draw(t, "environment")
	key := rapid.SampledFrom([]string{"", usedKey(1), usedKey(2), usedKey(3)}).Draw(t, "key")
	product := rapid.SampledFrom([]string{"", "payments", "search", "credits"}).Draw(t, "product")
	asset := rapid.SampledFrom([]string{events.Credits, "usd", "usdc"}).Draw(t, "asset")
	amount := rapid.OneOf(rapid.Int64Range(1, 300), rapid.Just(int64(1)<<53)).Draw(t, "amount")
	e := events.Event{Account: rapid.SampledFrom([]string{"acme", "beta"}).Draw(t, "account"), Environment: environment}
	after := events.Balance{Environment: environment, Asset: asset}
	debited := &events.Debited{Debit: events.Debit{Environment: environment, Asset: asset, Key: key, Product: product, Amount: amount}, Balance: after}
	held := &events.Held{Hold: events.Hold{Environment: environment, Asset: asset, Key: key, Amount: amount}, Balance: after}
	e.Data = debited
	switch rapid.SampledFrom([]string{"authorize", "signed", "debit", "capture", "hold", "refund", "grant"}).Draw(t, "kind") {
	case "authorize":
		debited.SecretAge = events.OldSecret
	case "signed":
		debited.Signature = []byte{1}
	case "capture":
		held.Capture = &events.Capture{Amount: amount}
		e.Data = held
	case "hold":
		e.Data = held
	case "refund":
		e.Data = &events.Refunded{Refund: events.Refund{Environment: environment, Asset: asset, Key: key, Product: product, Amount: amount}, Balance: after}
	case "grant":
		e.Data = &events.Granted{Grant: events.Grant{Environment: environment, Asset: asset, Amount: amount}, Balance: after}
	}
	return e
}

// naiveUsage counts by the text of each row.
type naiveUsage map[string][3]int64

func (n naiveUsage) add(account string, hour int64, e *events.Event) {
	count := func(key, environment, product, asset string, requests, spent, refunded int64) {
		for _, name := range []string{
			fmt.Sprint(account, "|", hour, "|", environment, "|", key, "|", product, "|", asset),
			fmt.Sprint("_|", hour, "|", environment, "||", product, "|", asset),
			fmt.Sprint("_/accounts|", hour, "|", environment, "|", account, "|", product, "|", asset),
		} {
			now := n[name]
			n[name] = [3]int64{now[0] + requests, now[1] + spent, now[2] + refunded}
		}
	}
	switch d := e.Data.(type) {
	case *events.Debited:
		requests := int64(0)
		if d.SecretAge+string(d.Signature) != "" {
			requests++
		}
		count(d.Key, d.Environment, d.Product, d.Asset, requests, d.Amount, 0)
	case *events.Held:
		if c := d.Capture; c != nil {
			count(d.Key, d.Environment, "", d.Asset, 0, c.Amount, 0)
		}
	case *events.Refunded:
		count(d.Key, d.Environment, d.Product, d.Asset, 0, 0, d.Amount)
	}
}

// take returns what takes rows into it, as the naive pass names them.
func (n naiveUsage) take(account string) func(*UsageRow) error {
	return func(r *UsageRow) error {
		name := fmt.Sprint(account, "|", int64(r.Hour)/HourMS, "|", r.Environment, "|", r.Key, "|", r.Product, "|", r.Asset)
		now := n[name]
		n[name] = [3]int64{now[0] + r.Requests, now[1] + r.Spent, now[2] + r.Refunded}
		return nil
	}
}

// However a history is split into segments, and whichever of them are joined, it says
// what one pass says that shares no code with it; joined wholly, the bytes are the same.
func TestUsageOfAnySplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole, segments, naive := openUsage(), []part{openUsage()}, naiveUsage{}
		at := int64(500_000)*HourMS - 1
		for range rapid.IntRange(0, 60).Draw(t, "events") {
			at += rapid.SampledFrom([]int64{0, 1, HourMS / 2, 40 * HourMS}).Draw(t, "later")
			if rapid.IntRange(0, 9).Draw(t, "segment") == 0 {
				segments = append(segments, openUsage())
			}
			e, c := drawMovement(t), &store.Commit{Time: events.Time(at)}
			whole.add(c, 0, &e)
			segments[len(segments)-1].add(c, 0, &e)
			naive.add(e.Account, at/HourMS, &e)
		}
		got := naiveUsage{}
		for _, account := range []string{"acme", "beta", Ledger, Accounts} {
			var chunks [][]byte
			for _, s := range segments {
				if chunk := s.append(nil, account); len(chunk) > 0 {
					chunks = append(chunks, chunk)
				}
			}
			for _, some := range [][]byte{whole.append(nil, account), join(t, chunks), join(t, [][]byte{join(t, chunks[:len(chunks)/2]), join(t, chunks[len(chunks)/2:])})} {
				if want := whole.append(nil, account); string(some) != string(want) {
					t.Fatalf("%s: joined %x, one pass %x", account, some, want)
				}
			}
			for _, chunk := range chunks {
				if err := readUsage(chunk, 0, math.MaxInt64, got.take(account)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !maps.Equal(got, naive) {
			t.Fatalf("read %v, want %v", got, naive)
		}
		accounts := slices.Sorted(whole.accounts())
		if want := len(naive) > 0; slices.Contains(accounts, Ledger) != want || slices.Contains(accounts, Accounts) != want {
			t.Fatalf("accounts %v", accounts)
		}
	})
}

func join(t *rapid.T, chunks [][]byte) []byte {
	joined, err := joinUsage(nil, chunks)
	if err != nil {
		t.Fatal(err)
	}
	return joined
}

// From is the first hour that is read, to the first that is not.
func TestUsageOfHours(t *testing.T) {
	u := openUsage()
	debit := events.Event{Account: "acme", Data: &events.Debited{
		Debit: events.Debit{Product: "search", Amount: 7}, Balance: events.Balance{Environment: events.Live, Asset: "usd"},
	}}
	for hour := range int64(6) {
		u.add(&store.Commit{Time: events.Time((1000 + hour*hour) * HourMS)}, 0, &debit) // 1000, 1001, 1004, 1009, 1016, 1025
	}
	chunk := u.append(nil, "acme")
	for _, c := range []struct{ from, to, rows int }{
		{0, 9999, 6}, {1000, 1026, 6}, {1001, 1026, 5}, {1000, 1025, 5}, {1002, 1004, 0}, {1004, 1005, 1}, {1003, 1010, 2}, {1026, 9999, 0}, {0, 1000, 0},
	} {
		got := naiveUsage{}
		if err := readUsage(chunk, events.Time(c.from)*HourMS, events.Time(c.to)*HourMS, got.take("acme")); err != nil || len(got) != c.rows {
			t.Errorf("hours %d to %d: %v, %v; want %d rows", c.from, c.to, got, err, c.rows)
		}
	}
}

// Sums end at the most that there is room for.
func TestUsageIsFull(t *testing.T) {
	sums := UsageSums{Requests: 1, Spent: math.MaxInt64 - 1}
	sums.Add(&UsageSums{Spent: 1, Refunded: 2})
	if want := (UsageSums{1, math.MaxInt64, 2}); sums != want {
		t.Errorf("%+v, want %+v", sums, want)
	}
	sums.Add(&sums)
	if want := (UsageSums{2, math.MaxInt64, 4}); sums != want {
		t.Errorf("%+v, want %+v", sums, want)
	}
	chunk := appendUsage(nil, &usageRows{list: []usageRow{{usageID{hour: 1}, sums}}})
	err := readUsage(chunk, 0, math.MaxInt64, func(r *UsageRow) error {
		if r.UsageSums != sums || r.Hour != HourMS {
			t.Errorf("read %+v", r)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// The form of a chunk is stored: these bytes are for ever.
func TestUsageChunkStaysTheSame(t *testing.T) {
	u := openUsage()
	add := func(hour int64, data events.Data) {
		u.add(&store.Commit{Time: events.Time(hour * HourMS)}, 0, &events.Event{Account: "acme", Data: data})
	}
	live := events.Balance{Environment: events.Live, Asset: events.Credits}
	debit := events.Debit{Key: usedKey(9), Product: "search", Amount: 100, SecretAge: events.CurrentSecret}
	add(491_000, &events.Debited{Debit: debit, Balance: live})
	add(491_000, &events.Debited{Debit: debit, Balance: live})
	add(491_002, &events.Refunded{Refund: events.Refund{Key: usedKey(9), Product: "search", Amount: 50}, Balance: live})
	add(491_002, &events.Held{Capture: &events.Capture{Amount: 3}, Balance: events.Balance{Environment: events.Test, Asset: "usd"}})
	const want = "f8fb1d01" + // hour 491,000, one series:
		"04" + "01" + "01020300000000000000000000000009" + "00" + "06" + "736561726368" + "05" + // live, a key, search, credits
		"04" + "03" + "02" + "c801" + // 4 bytes: series 0 with 2 requests, 200 spent
		"0201" + "03" + "02" + "02" + "00" + "03" + "757364" + // two hours later, one series more: test, none, none, usd
		"04" + "04" + "32" + "02" + "03" // 4 bytes: series 0 with 50 refunded, series 1 with 3 spent
	if got := hex.EncodeToString(u.append(nil, "acme")); got != want {
		t.Errorf("chunk\n%s, want\n%s", got, want)
	}
}

// A chunk that is damaged is told or read as something else, and never more than there
// is: no length makes the reader take memory.
func FuzzReadUsage(f *testing.F) {
	rows := &usageRows{}
	for i := range int64(40) {
		rows.add(&usageID{400_000 + i/4, series{events.Test, usedKey(byte(i % 5)), "search", "usd"}}, &UsageSums{i, 2 * i, i % 2})
	}
	f.Add(appendUsage(nil, rows))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, chunk []byte) {
		rows := &usageRows{}
		err := readUsage(chunk, math.MinInt64, math.MaxInt64, func(r *UsageRow) error {
			if r.Requests < 0 || r.Spent < 0 || r.Refunded < 0 || r.Hour < 0 {
				t.Fatalf("row %+v", r)
			}
			rows.add(&usageID{int64(r.Hour) / HourMS, series{r.Environment, r.Key, r.Product, r.Asset}}, &r.UsageSums)
			return nil
		})
		if err != nil {
			return
		}
		again, err := joinUsage(nil, [][]byte{appendUsage(nil, rows)})
		if err != nil || string(again) != string(appendUsage(nil, rows)) {
			t.Fatalf("not the same again: %v", err)
		}
	})
}

// BenchmarkUsage is what an event costs the archive, then a chunk, what a row takes, and how
// fast rows are read, of an account with many keys.
func BenchmarkUsage(b *testing.B) {
	const keys, products = 100, 5
	list := make([]events.Event, 0, keys*products)
	for i := range keys * products {
		list = append(list, events.Event{Account: "acme", Data: &events.Debited{Debit: events.Debit{
			Key: usedKey(byte(i % keys)), Product: fmt.Sprint("product-", i/keys), Amount: 100, SecretAge: events.CurrentSecret,
		}, Balance: events.Balance{Environment: events.Live, Asset: events.Credits}}})
	}
	u := openUsage()
	b.Run("add", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			u.add(&store.Commit{Time: events.Time(400_000+i/200_000) * HourMS}, 0, &list[i%len(list)])
			i++
		}
	})
	b.Run("append", func(b *testing.B) { // of an account with one row, as most are
		few := openUsage()
		few.add(&store.Commit{Time: 400_000 * HourMS}, 0, &list[0])
		b.ReportAllocs()
		var chunk []byte
		for b.Loop() {
			chunk = few.append(chunk[:0], "acme")
		}
	})
	u = openUsage()
	for i := range 200 * len(list) {
		u.add(&store.Commit{Time: events.Time(400_000+i/2000) * HourMS}, 0, &list[i%len(list)])
	}
	chunk := u.append(nil, "acme")
	b.Run("read", func(b *testing.B) {
		rows := 0
		for b.Loop() {
			rows = 0
			if err := readUsage(chunk, 0, math.MaxInt64, func(*UsageRow) error { rows++; return nil }); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(chunk))/float64(rows), "bytes/row")
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
	})
}
