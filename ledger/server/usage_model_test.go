package server_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/ledger/server"
	"github.com/keyledger/keyledger/testing/ledgertest"
)

// fact is one thing that a client did or was told, in a certain hour.
type fact struct {
	hour                               time.Time
	account, environment, key, product string
	member                             string // "allowed", "refusals." + code, "spent." + asset, "refunded." + asset
	n                                  int64
}

// question is a usage.get as a client asks it.
type question struct {
	account, environment, key, product, by string
	from, to                               time.Time
	group                                  []string
}

// model makes traffic against a server whose clock it moves, and notes what should count.
type model struct {
	*ledgertest.Ledger
	t       *testing.T
	random  *rand.Rand
	ahead   atomic.Int64 // of the server's clock, before the real one
	hour    time.Time    // of the server, in the middle of which it is
	facts   []fact
	keys    []*client.NewKey
	debits  []fact // what can be refunded, n being the rest
	debitID []string
}

func newModel(t *testing.T) *model {
	seed := rand.Uint64()
	if text := os.Getenv("KEYLEDGER_TEST_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("KEYLEDGER_TEST_SEED=%d", seed)
	return &model{t: t, random: rand.New(rand.NewPCG(seed, 0))}
}

// at makes it half past an hour for the server, which must not run.
func (m *model) at(hour time.Time) {
	m.hour = hour
	m.ahead.Store(int64(time.Until(hour.Add(30 * time.Minute))))
}

// id is a command id of the server's time.
func (m *model) id() (id ulid.ULID) {
	if err := id.SetTime(uint64(m.hour.Add(30 * time.Minute).UnixMilli())); err != nil {
		m.t.Fatal(err)
	}
	for i := range id[6:] {
		id[6+i] = byte(m.random.Uint32())
	}
	return id
}

func (m *model) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func pick[T any](m *model, list ...T) T { return list[m.random.IntN(len(list))] }

// setUp opens two accounts with keys: one in each environment, and one tied to an address.
func (m *model) setUp() {
	ctx := m.t.Context()
	for _, account := range []string{"acme", "beta"} {
		_, err := m.OpenAccount(ctx, account, ledger.OpenAccount{}, client.WithID(m.id()))
		m.must(err)
		_, err = m.Command(ctx, account, "account.enable_environment", map[string]any{"environment": events.Live}, client.WithID(m.id()))
		m.must(err)
		_, err = m.Command(ctx, account, "account.set_products", map[string]any{"environment": events.Live, "products": []string{"search"}}, client.WithID(m.id()))
		m.must(err)
		for _, environment := range []string{events.Test, events.Live} {
			for _, asset := range []string{"credits", "usd"} {
				_, err = m.Grant(ctx, account, ledger.GrantCredit{Environment: environment, Asset: asset, Amount: 3000}, client.WithID(m.id()))
				m.must(err)
			}
			for _, allow := range [][]string{nil, {"192.0.2.1/32"}} {
				made, err := m.CreateKey(ctx, account, ledger.CreateKey{Environment: environment, Name: "k", IPAllowlist: allow}, client.WithID(m.id()))
				m.must(err)
				m.keys = append(m.keys, made)
			}
		}
	}
}

// note says what should count.
func (m *model) note(f fact, member string, n int64) {
	f.hour, f.member, f.n = m.hour, member, n
	m.facts = append(m.facts, f)
}

// step does one thing at random.
func (m *model) step() {
	ctx, key := m.t.Context(), pick(m, m.keys...)
	f := fact{account: key.Key.Account, environment: key.Key.Environment, key: key.Key.ID, product: pick(m, "", "search", "payments")}
	amount := int64(1 + m.random.IntN(60))
	switch m.random.IntN(8) {
	case 0, 1, 2, 3: // authorize: paid, free, refused for the address, the product or want of credits
		cost := pick(m, 0, 0, amount, amount, 1_000_000)
		answer, err := m.Authorize(ctx, &ledger.Authorize{
			Secret: key.Secret, ID: m.id().String(), Product: f.product, Cost: &cost, IP: pick(m, "192.0.2.1", "192.0.2.2"),
		})
		m.must(err)
		if !answer.Allowed {
			m.note(f, "refusals."+string(answer.Code), 1)
			return
		}
		m.note(f, "allowed", 1)
		m.spend(f, "credits", cost, answer.Debit)
	case 4:
		_, err := m.Authorize(ctx, &ledger.Authorize{Secret: "kl_test_unknown", ID: m.id().String()})
		m.must(err)
	case 5: // the operator's own debit
		f.key, f.product = pick(m, "", f.key), pick(m, "", f.product)
		asset := pick(m, "credits", "usd")
		out, err := m.Debit(ctx, f.account, ledger.DebitCredit{Environment: f.environment, Asset: asset, Amount: amount, Key: f.key, Product: f.product}, client.WithID(m.id()))
		if err == nil {
			m.spend(f, asset, amount, out.Debit.ID)
		}
	case 6:
		f.key, f.product = pick(m, "", f.key), ""
		held, err := m.PlaceHold(ctx, f.account, ledger.PlaceHold{Environment: f.environment, Asset: "credits", Amount: 2 * amount, ExpiresIn: "1h", Key: f.key}, client.WithID(m.id()))
		if err != nil {
			return
		}
		taken, err := m.CaptureHold(ctx, f.account, ledger.CaptureHold{Hold: held.Hold.ID, Amount: &amount}, client.WithID(m.id()))
		m.must(err)
		m.spend(f, "credits", amount, taken.Capture.Debit)
		_, err = m.ReleaseHold(ctx, f.account, ledger.ReleaseHold{Hold: held.Hold.ID}, client.WithID(m.id()))
		m.must(err)
	case 7: // of any hour before, perhaps
		if len(m.debits) == 0 {
			return
		}
		i := m.random.IntN(len(m.debits))
		d := m.debits[i]
		back := 1 + m.random.Int64N(d.n)
		_, err := m.Refund(ctx, d.account, ledger.RefundCredit{Debit: m.debitID[i], Amount: &back}, client.WithID(m.id()))
		m.must(err)
		m.note(d, "refunded."+d.member, back)
		if m.debits[i].n -= back; m.debits[i].n == 0 {
			m.debits = append(m.debits[:i:i], m.debits[i+1:]...)
			m.debitID = append(m.debitID[:i:i], m.debitID[i+1:]...)
		}
	}
}

func (m *model) spend(f fact, asset string, amount int64, debit string) {
	if amount == 0 {
		return
	}
	m.note(f, "spent."+asset, amount)
	f.member, f.n = asset, amount
	m.debits, m.debitID = append(m.debits, f), append(m.debitID, debit)
}

// want answers a question from the facts.
func (m *model) want(q *question) map[string]int64 {
	out := map[string]int64{}
	for _, f := range m.facts {
		if q.account != "_" && f.account != q.account || f.environment != q.environment || q.key != "" && f.key != q.key ||
			q.product != "" && f.product != q.product || f.hour.Before(q.from) || !f.hour.Before(q.to) {
			continue
		}
		start := map[string]string{
			"hour": f.hour.Format("2006-01-02T15:00:00Z"), "day": f.hour.Format("2006-01-02") + "T00:00:00Z",
			"month": f.hour.Format("2006-01") + "-01T00:00:00Z", "total": q.from.Format(time.RFC3339),
		}[q.by]
		of := map[string]string{"account": f.account, "key": f.key, "product": f.product}
		name := start
		for _, group := range []string{"account", "key", "product"} {
			name += "|"
			for _, asked := range q.group {
				if asked == group {
					name += of[group]
				}
			}
		}
		for _, row := range []string{name, "totals"} {
			out[row+"|"+f.member] += f.n
			switch {
			case f.member == "allowed":
				out[row+"|requests"] += f.n
			case strings.HasPrefix(f.member, "refusals."):
				out[row+"|refused"] += f.n
				out[row+"|requests"] += f.n
			}
		}
	}
	return out
}

// got asks the server.
func (m *model) got(q *question) map[string]int64 {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 50*time.Second) // of which half is enough to count all
	defer cancel()
	reply, err := m.Query(ctx, q.account, "usage.get", map[string]any{
		"environment": q.environment, "key": q.key, "product": q.product, "by": q.by, "group": q.group,
		"from": q.from.Format(time.RFC3339), "to": q.to.Format(time.RFC3339),
	}, client.Strict())
	m.must(err)
	var answer server.Usage
	m.must(reply.Decode(&answer))
	if answer.RefusalsSince != 0 || answer.By != q.by || !answer.From.Std().Equal(q.from) || !answer.To.Std().Equal(q.to) {
		m.t.Errorf("%+v is answered %s", q, reply.Body)
	}
	out := map[string]int64{}
	flat := func(row string, c *server.UsageCounts) {
		for name, n := range map[string]int64{"requests": c.Requests, "allowed": c.Allowed, "refused": c.Refused} {
			if n != 0 {
				out[row+"|"+name] += n
			}
		}
		for code, n := range c.Refusals {
			out[row+"|refusals."+string(code)] += n
		}
		for asset, n := range c.Spent {
			out[row+"|spent."+asset] += n
		}
		for asset, n := range c.Refunded {
			out[row+"|refunded."+asset] += n
		}
	}
	last := ""
	for i := range answer.Usage {
		r := &answer.Usage[i]
		name := fmt.Sprint(r.Start, "|", r.Account, "|", r.Key, "|", r.Product)
		if order := strings.ReplaceAll(name, "|", " "); order <= last {
			m.t.Errorf("%+v: row %s after %s", q, name, last)
		} else {
			last = order
		}
		flat(name, &r.UsageCounts)
	}
	flat("totals", &answer.Totals)
	return out
}

// check asks questions of every kind and of random spans.
func (m *model) check(first time.Time) {
	m.t.Helper()
	hours := int(m.hour.Sub(first)/time.Hour) + 1
	for range 60 {
		q := &question{
			account: pick(m, "acme", "acme", "beta", "_"), environment: pick(m, events.Test, events.Test, events.Live),
			by: pick(m, "hour", "day", "month", "total"), product: pick(m, "", "", "search"),
			from: first.Add(-time.Hour), to: m.hour.Add(time.Hour),
		}
		if pick(m, true, false) {
			n := m.random.IntN(hours)
			q.from = pick(m, first.Add(time.Duration(n)*time.Hour), m.hour, first)
			q.to = pick(m, q.from.Add(time.Duration(1+m.random.IntN(hours))*time.Hour), q.from.Add(time.Hour))
		}
		q.group = pick(m, nil, []string{"product"}, []string{"key"}, []string{"product", "key"})
		if q.account == "_" {
			q.group = pick(m, nil, []string{"product"}, []string{"account"}, []string{"product", "account"})
		} else if key := pick(m, m.keys...); key.Key.Account == q.account && pick(m, true, false) {
			q.key = key.Key.ID
		}
		if got, want := m.got(q), m.want(q); !maps.Equal(got, want) {
			m.t.Fatalf("%+v\n got %v\nwant %v", q, got, want)
		}
	}
}

// What usage.get says of random traffic is what the client counted by itself: over the
// ends of an hour, a day, a month and a year, before and after a restart, and when the
// archive is lost and made again.
func TestUsageAgainstANaiveModel(t *testing.T) {
	m := newModel(t)
	first := time.Date(2024, 12, 31, 22, 0, 0, 0, time.UTC)
	m.at(first)
	m.Ledger = ledgertest.Start(t, func(cfg *server.Config) {
		cfg.Clock = func() time.Time { return time.Now().Add(time.Duration(m.ahead.Load())) }
	})
	m.setUp()
	for i, hour := range []time.Time{first, first.Add(time.Hour), first.Add(2 * time.Hour), first.Add(26 * time.Hour), first.Add(800 * time.Hour)} {
		if i > 0 {
			m.Stop()
			if i%2 == 0 {
				m.must(os.RemoveAll(filepath.Join(m.Dir, "archive")))
			}
			m.at(hour)
			m.Start()
			m.check(first)
		}
		for range 150 {
			m.step()
		}
		m.check(first)
	}
	m.Verify()
	m.Stop()
}
