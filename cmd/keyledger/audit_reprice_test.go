package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

func drawPlan(t *rapid.T, name string) *events.Plan {
	price := rapid.Int64Range(0, 1000).Draw(t, name+" default")
	plan := &events.Plan{Name: name, Price: events.Price{Asset: rapid.SampledFrom([]string{"credits", "usd"}).Draw(t, name+" asset"), Default: &price, Per: map[string]int64{}}}
	for _, kind := range []string{"maps:read", "maps:write", "mail:write"} {
		if rapid.Bool().Draw(t, name+" has "+kind) {
			plan.Price.Per[kind] = rapid.Int64Range(0, 1000).Draw(t, name+" "+kind)
		}
	}
	return plan
}

// history is a log under construction, and what a naive count makes of it.
type history struct {
	commits []*store.Commit
	debits  []oneDebit
}

// oneDebit is a debit with all that is known of it in the end.
type oneDebit struct {
	account  string
	when     events.Time
	data     *events.Debited
	plan     *events.Plan // of its time
	given    bool
	refunded int64
}

func (h *history) add(command string, e events.Event) {
	h.commits = append(h.commits, &store.Commit{
		Sequence: uint64(len(h.commits)) + 1, Time: at(len(h.commits)),
		Entries: []store.Entry{{Command: command, Account: e.Account, Outcome: events.OK, Events: []events.Event{e}}},
	})
}

// drawHistory draws plans, debits at their prices and at others, and refunds. only is the
// one plan there ever is; nil: any.
func drawHistory(t *rapid.T, only *events.Plan) *history {
	h, plans := new(history), map[string]*events.Plan{}
	for i := range rapid.IntRange(0, 40).Draw(t, "steps") {
		account := rapid.SampledFrom([]string{"acme", "globex"}).Draw(t, "account")
		_, open := plans[account]
		what := rapid.IntRange(0, 9).Draw(t, "what")
		switch {
		case !open || what == 0 && only == nil:
			plan := only
			if only == nil && rapid.Bool().Draw(t, "has a plan") {
				plan = drawPlan(t, fmt.Sprintf("plan %d", i))
			}
			plans[account] = plan
			h.add("account.set_plan", events.Event{Type: "account.plan_set", Account: account, Data: &events.Account{ID: account, Plan: plan}})
		case what < 3 && len(h.debits) > 0:
			h.refund(t)
		default:
			h.debit(t, i, account, plans[account])
		}
	}
	return h
}

func (h *history) debit(t *rapid.T, i int, account string, plan *events.Plan) {
	d := &events.Debited{Debit: events.Debit{ID: fmt.Sprint("debit_", i), Environment: rapid.SampledFrom([]string{events.Test, events.Live}).Draw(t, "environment")}}
	command := rapid.SampledFrom([]string{"authorize", "credit.debit"}).Draw(t, "command")
	d.Product = rapid.SampledFrom([]string{"maps", "mail", ""}).Draw(t, "product")
	if command == "authorize" {
		d.Access = rapid.SampledFrom([]string{events.Read, events.Write}).Draw(t, "access")
		d.Units = rapid.Int64Range(0, 5).Draw(t, "units")
	}
	kind := d.Access
	if kind == "" {
		kind = events.Write
	}
	cost, asset, err := ledger.Price(plan, d.Product, kind, max(d.Units, 1))
	if err != nil {
		t.Fatal(err)
	}
	d.Amount, d.Asset = cost, asset
	given := rapid.Bool().Draw(t, "given")
	if given || cost == 0 {
		d.Amount, given = cost+rapid.Int64Range(1, 9).Draw(t, "more"), true
	}
	h.add(command, events.Event{Type: "credit.debited", Account: account, Environment: d.Environment, Data: d})
	if command == "authorize" || d.Product != "" {
		h.debits = append(h.debits, oneDebit{account: account, when: h.commits[len(h.commits)-1].Time, data: d, plan: plan, given: given})
	}
}

func (h *history) refund(t *rapid.T) {
	d := &h.debits[rapid.IntRange(0, len(h.debits)-1).Draw(t, "which")]
	if d.refunded == d.data.Amount {
		return
	}
	d.refunded += rapid.Int64Range(1, d.data.Amount-d.refunded).Draw(t, "refund")
	h.add("credit.refund", events.Event{Type: "credit.refunded", Account: d.account, Environment: d.data.Environment,
		Data: &events.Refunded{Refund: events.Refund{Debit: d.data.ID, Refunded: d.refunded}}})
}

// repriced runs a repricer over the history.
func (h *history) repriced(t *rapid.T, r *repricer) (rows, totals []*repriceRow) {
	for _, pass := range []func(*store.Commit) error{r.Fold, r.Reduce} {
		for _, c := range h.commits {
			if err := pass(c); err != nil {
				t.Fatal(err)
			}
		}
	}
	rows, totals, err := r.Rows()
	if err != nil {
		t.Fatal(err)
	}
	return rows, totals
}

// Under the plan that was in force nothing would have cost anything else.
func TestRepriceUnderTheSamePlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plan := drawPlan(t, "plan")
		h := drawHistory(t, plan)
		rows, totals := h.repriced(t, newRepricer(plan, "", 0, 0))
		for _, row := range append(rows, totals...) {
			if row.Difference != 0 || row.Before != row.After {
				t.Errorf("%+v", row)
			}
		}
	})
}

// A second, naive count, debit by debit and in numbers without end, says the same.
func TestRepriceIsWhatANaiveCountSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, plan := drawHistory(t, nil), drawPlan(t, "other")
		account := rapid.SampledFrom([]string{"", "acme", "globex"}).Draw(t, "only")
		want := map[string]int64{}
		for _, d := range h.debits {
			if account != "" && d.account != account {
				continue
			}
			access := d.data.Access
			if access == "" {
				access = "write"
			}
			after, asset := big.NewInt(d.data.Amount), d.data.Asset
			if !d.given {
				each, ok := plan.Price.Per[d.data.Product+":"+access]
				if !ok {
					each = *plan.Price.Default
				}
				after, asset = big.NewInt(each*max(d.data.Units, 1)), plan.Price.Asset
			}
			back := new(big.Int).Mul(after, big.NewInt(d.refunded))
			after.Sub(after, back.Div(back, big.NewInt(d.data.Amount)))
			name := d.account + " " + d.data.Environment + " "
			want[name+d.data.Asset+" before"] += d.data.Amount - d.refunded
			want[name+asset+" after"] += after.Int64()
			want[name+d.data.Asset+" debits"]++
		}
		rows, totals := h.repriced(t, newRepricer(plan, account, 0, 0))
		var sum, total int64
		for _, row := range rows {
			name := row.Account + " " + row.Environment + " " + row.Asset
			if row.Before != want[name+" before"] || row.After != want[name+" after"] || row.Debits != want[name+" debits"] || row.Difference != row.After-row.Before {
				t.Errorf("%+v, want %d, %d, %d", row, want[name+" before"], want[name+" after"], want[name+" debits"])
			}
			delete(want, name+" before")
			delete(want, name+" after")
			sum += row.Difference
		}
		for name, n := range want {
			if n != 0 && !strings.HasSuffix(name, "debits") {
				t.Errorf("no row has the %d of %s", n, name)
			}
		}
		for _, row := range totals {
			total += row.Difference
		}
		if sum != total {
			t.Errorf("the rows differ by %d, the totals by %d", sum, total)
		}
	})
}

// A span counts the debits in it, both ends included, and the refunds in it; plans count
// from before it.
func TestRepriceOfASpan(t *testing.T) {
	price, double := int64(10), int64(20)
	plan := &events.Plan{Name: "old", Price: events.Price{Asset: "credits", Default: &price}}
	other := &events.Plan{Name: "new", Price: events.Price{Asset: "credits", Default: &double}}
	h := new(history)
	h.add("account.set_plan", events.Event{Account: "acme", Data: &events.Account{ID: "acme", Plan: plan}}) // 0
	for i := range 4 {                                                                                      // 1 to 4
		h.add("authorize", events.Event{Account: "acme", Environment: "test", Data: &events.Debited{Debit: events.Debit{ID: fmt.Sprint(i + 1), Asset: "credits", Amount: 10}}})
	}
	for _, id := range []string{"1", "3", "capture"} { // 5 to 7
		h.add("credit.refund", events.Event{Account: "acme", Environment: "test", Data: &events.Refunded{Refund: events.Refund{Debit: id, Refunded: 5}}})
	}
	for _, c := range []struct {
		from, to                   events.Time
		debits, before, difference int64
	}{
		{0, 0, 4, 30, 30},
		{at(1), at(4), 4, 40, 40},
		{at(2), at(3), 2, 20, 20},
		{at(2), 0, 3, 25, 25},
		{at(2) + 1, at(6) - 1, 2, 20, 20},
		{0, at(1) - 1, 0, 0, 0},
	} {
		r := newRepricer(other, "", c.from, c.to)
		for _, pass := range []func(*store.Commit) error{r.Fold, r.Reduce} {
			for _, commit := range h.commits {
				if err := pass(commit); err != nil {
					t.Fatal(err)
				}
			}
		}
		_, totals, err := r.Rows()
		got := new(repriceRow)
		if len(totals) > 0 {
			got = totals[0]
		}
		if err != nil || got.Debits != c.debits || got.Before != c.before || got.Difference != c.difference {
			t.Errorf("%v to %v: %+v, %v; want %+v", c.from, c.to, got, err, c)
		}
	}
}

// What cannot be counted is refused, with the debit.
func TestRepriceBeyondAnAmount(t *testing.T) {
	one, most := int64(1), int64(ledger.MaxAmount)
	other := &events.Plan{Name: "new", Price: events.Price{Asset: "credits", Default: &most}}
	h := new(history)
	h.add("account.set_plan", events.Event{Account: "acme", Data: &events.Account{ID: "acme", Plan: &events.Plan{Price: events.Price{Asset: "credits", Default: &one}}}})
	h.add("authorize", events.Event{Account: "acme", Data: &events.Debited{Debit: events.Debit{ID: "debit_1", Asset: "credits", Amount: 2, Units: 2}}})
	r := newRepricer(other, "", 0, 0)
	if err := r.Fold(h.commits[0]); err != nil {
		t.Fatal(err)
	}
	if err := r.Fold(h.commits[1]); err == nil || !strings.Contains(err.Error(), "debit debit_1 of account acme, in commit 0:2: 2 units at 9007199254740991 each cost more than") {
		t.Errorf("%v", err)
	}
	sum := int64(math.MaxInt64 - 1)
	if err := add(&sum, 1, nil); err != nil || sum != math.MaxInt64 {
		t.Errorf("%d, %v", sum, err)
	}
	if err := add(&sum, 1, nil); err == nil {
		t.Errorf("a sum went on to %d", sum)
	}
}

// The three forms of the same answer, over a log.
func TestRepriceForms(t *testing.T) {
	log := newWrittenLog(t)
	price, double := int64(10), int64(2000)
	entry := func(command string, e events.Event) store.Entry {
		return store.Entry{CommandID: ulid.ULID{1}, Command: command, Account: "acme", Outcome: events.OK, Events: []events.Event{e}}
	}
	plan := &events.Plan{Name: "old", Price: events.Price{Asset: "credits", Default: &price}}
	log.add(1, at(1), entry("account.open", events.Event{Type: "account.opened", Account: "acme", Data: &events.Account{ID: "acme", Plan: plan}}))
	for _, amount := range []int64{10, 7} {
		log.add(1, at(2), entry("authorize", events.Event{Type: "credit.debited", Account: "acme", Environment: "test", Data: &events.Debited{
			Debit: events.Debit{ID: fmt.Sprint("debit_", amount), Amount: amount, Key: "key_1"}, Balance: events.Balance{Environment: "test", Asset: "credits"}}}))
	}
	var out, errOut bytes.Buffer
	for _, c := range []struct {
		json, csv bool
		want      string
	}{
		{false, false, "ACCOUNT  ENVIRONMENT  ASSET    DEBITS  GIVEN  BEFORE  AFTER  DIFFERENCE\nacme     test         credits  2       1      17      2,007  +1,990\ntotal    test         credits  2       1      17      2,007  +1,990\n"},
		{false, true, "account,environment,asset,debits,given,before,after,difference\nacme,test,credits,2,1,17,2007,1990\n*,test,credits,2,1,17,2007,1990\n"},
		{true, false, `{"plan":"new","from":null,"to":null,"position":"0:3","rows":[{"account":"acme","environment":"test","asset":"credits","debits":2,"given":1,"before":17,"after":2007,"difference":1990}],"totals":[{"environment":"test","asset":"credits","debits":2,"given":1,"before":17,"after":2007,"difference":1990}]}` + "\n"},
	} {
		out.Reset()
		a := &app{out: &out, errOut: &errOut, json: c.json}
		other := &events.Plan{Name: "new", Price: events.Price{Asset: "credits", Default: &double}}
		found, err := a.reprice(context.Background(), &log.Memory, 3, newRepricer(other, "", 0, 0))
		if err != nil {
			t.Fatal(err)
		}
		if err := found.show(a, c.csv); err != nil || out.String() != c.want {
			t.Errorf("got %v\n%s\nwant\n%s", err, out.String(), c.want)
		}
	}
}
