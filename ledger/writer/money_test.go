package writer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"
	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// moneyTwins is an account behind a writer, beside the model of its money and the books
// that are kept of the log.
type moneyTwins struct {
	f      *fixture
	t      *rapid.T
	snaps  *store.MemorySnapshots
	model  *purses
	books  *books
	secret string
	plans  string // of the set_plan that holds

	granted map[string]bool // ids
}

// Random commands over days, with restarts and downtime between them, do with money what a
// model does that has every credit by itself. Each command is sent twice and happens once.
// The log adds up: see books. rapid prints the seed of a failure; -rapid.seed takes it back.
func TestMoneyAgainstAModelOfSingleCredits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &moneyTwins{t: t, granted: map[string]bool{}, snaps: new(store.MemorySnapshots), books: &books{places: map[string]events.Balance{}}}
		log, c := new(store.Memory), newClock()
		w.f = snapping(t, log, c, w.snaps)
		w.model = &purses{all: map[string]*purse{}, now: start}
		w.f.must("a", "account.open", new(ledger.OpenAccount))
		w.f.must("a", "account.enable_environment", &ledger.EnableEnvironment{Environment: events.Live})
		id := ulid.ULID{15: 1}
		w.secret = ledger.NewSecret(events.Test, "a", id, sha256.Sum256(id[:]))
		w.f.must("a", "key.create", &ledger.CreateKey{Environment: events.Test, Name: "k", KeyID: id, Hash: sha256.Sum256([]byte(w.secret))})
		t.Repeat(map[string]func(*rapid.T){
			"plan": w.setPlan, "grant": w.grant, "grant more": w.grant, "debit": w.debit, "debit more": w.debit,
			"authorize": w.authorize, "adjust": w.adjust, "marks": w.setThresholds, "time": w.live, "more time": w.live, "restart": w.restart,
		})
		w.restart(t)
		w.debit(t)
		if err := w.f.end(); err != nil {
			t.Fatal(err)
		}
	})
}

var moneyAssets = []string{"credits", "usd", "usdc", "eur"}

func (w *moneyTwins) place(t *rapid.T) (environment, asset string) {
	return rapid.SampledFrom([]string{"test", "test", "live"}).Draw(t, "environment"), rapid.SampledFrom(moneyAssets).Draw(t, "asset")
}

// setPlan draws terms, in JSON for the ledger and in a struct for the model.
func (w *moneyTwins) setPlan(t *rapid.T) {
	next := &purseTerms{overdraft: map[string]int{}}
	text := `{"plan":{"name":"p","price":{"asset":"usd"},"assets":{"usd":{"class":"fiat"},"usdc":{"scale":1,"class":"crypto"},"eur":{}}`
	if rapid.IntRange(0, 4).Draw(t, "with an allowance") > 0 {
		next.asset, next.amount = rapid.SampledFrom(moneyAssets[:2]).Draw(t, "asset"), rapid.IntRange(1, 120).Draw(t, "amount")
		next.every = rapid.SampledFrom([]string{"day", "day", "month"}).Draw(t, "every")
		next.zone = rapid.SampledFrom([]string{"UTC", "America/New_York", "Asia/Kathmandu", "Africa/Cairo"}).Draw(t, "zone")
		text += fmt.Sprintf(`,"allowance":{"asset":%q,"amount":%d,"every":%q,"time_zone":%q}`, next.asset, next.amount, next.every, next.zone)
	}
	asset, limit := rapid.SampledFrom(moneyAssets).Draw(t, "overdraft of"), rapid.IntRange(0, 60).Draw(t, "limit")
	next.overdraft[asset] = limit
	text += fmt.Sprintf(`,"overdraft":{%q:%d},"par":[`, asset, limit)
	pairs := rapid.SampledFrom([][][2]string{{}, {{"usd", "usdc"}}, {{"eur", "usdc"}, {"usdc", "usd"}}, {{"usd", "eur"}, {"usd", "usdc"}, {"credits", "eur"}}}).Draw(t, "par")
	for i, pair := range pairs {
		text += strings.Repeat(",", min(i, 1)) + fmt.Sprintf(`[%q,%q]`, pair[0], pair[1])
	}
	next.par = pairs
	cmd := new(ledger.SetPlan)
	w.decode(text+`]}}`, cmd)
	r := w.twice("account.set_plan", cmd, text != w.plans)
	if r.Err != nil {
		t.Fatalf("%s: %v", text, r.Err)
	}
	w.plans = text
	w.model.setPlan(next)
	w.compare(t)
}

func (w *moneyTwins) decode(text string, cmd ledger.Command) {
	if err := events.DecodeStrict([]byte(text), cmd); err != nil {
		w.t.Fatalf("%s: %v", text, err)
	}
}

func (w *moneyTwins) grant(t *rapid.T) {
	environment, asset := w.place(t)
	amount, priority := rapid.IntRange(1, 150).Draw(t, "amount"), rapid.IntRange(-1, 1).Draw(t, "priority")
	cmd := &ledger.GrantCredit{Environment: environment, Asset: asset, Amount: int64(amount), Priority: int64(priority)}
	like := credit{priority: priority}
	if hours := rapid.IntRange(0, 60).Draw(t, "hours"); hours > 0 {
		like.expires = w.f.clock.now().Add(time.Duration(hours) * time.Hour)
		cmd.ExpiresAt = events.At(like.expires)
	}
	r := w.twice("credit.grant", cmd, true)
	if r.Err != nil {
		t.Fatalf("grant: %v", r.Err)
	}
	like.of = r.Data.(*events.Granted).ID
	w.granted[like.of] = true
	w.model.add(w.model.purse(environment, asset), amount, like)
	w.compare(t)
}

func (w *moneyTwins) debit(t *rapid.T) {
	environment, asset := w.place(t)
	amount := rapid.IntRange(1, 200).Draw(t, "amount")
	if n := w.model.purse(environment, asset).available(); n > 0 && rapid.IntRange(0, 3).Draw(t, "to the last") == 0 {
		amount = n
	}
	parts, ok := w.model.take(environment, asset, amount)
	r := w.twice("credit.debit", &ledger.DebitCredit{Environment: environment, Asset: asset, Amount: int64(amount)}, ok)
	w.taken(t, fmt.Sprintf("debit of %d %s %s", amount, environment, asset), parts, ok, r)
}

// authorize takes usd, the plan's price asset, or credits where there is no plan.
func (w *moneyTwins) authorize(t *rapid.T) {
	asset := "credits"
	if w.model.plan != nil {
		asset = "usd"
	}
	cost := rapid.Int64Range(1, 120).Draw(t, "cost")
	item := &ledger.Authorize{Secret: w.secret, Cost: &cost}
	if err := item.Validate(); err != nil {
		t.Fatal(err)
	}
	parts, ok := w.model.take("test", asset, int(cost))
	id := w.f.clock.id()
	r := w.both("authorize", ok, func() *Reply { return <-w.f.send(&Request{Authorize: item, ID: id, Receipt: true}) })
	if (r.Answer.Code == events.OK) != ok || !ok && r.Answer.Code != events.InsufficientCredits {
		t.Fatalf("authorize %d %s: %+v, the model says %t", cost, asset, r.Answer, ok)
	}
	if ok {
		w.taken(t, "authorize", parts, ok, r)
	}
	w.compare(t)
}

// adjust takes or gives without anything standing in at par.
func (w *moneyTwins) adjust(t *rapid.T) {
	environment, asset := w.place(t)
	amount := rapid.IntRange(1, 150).Draw(t, "amount")
	cmd := &ledger.AdjustCredit{Environment: environment, Asset: asset, Amount: int64(amount), Reason: "r"}
	if rapid.Bool().Draw(t, "add") {
		r := w.twice("credit.adjust", cmd, true)
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		d := r.Data.(*events.Adjusted)
		like := credit{of: d.Added[len(d.Added)-1].Grant}
		w.granted[like.of] = true
		w.model.add(w.model.purse(environment, asset), amount, like)
		w.compare(t)
		return
	}
	cmd.Amount = -cmd.Amount
	_, ok := w.model.withdraw(environment, asset, amount)
	if r := w.twice("credit.adjust", cmd, ok); (r.Err == nil) != ok || !ok && r.Err.Code != events.InsufficientCredits {
		t.Fatalf("adjust %s %s by %d: %v, the model says %t", environment, asset, cmd.Amount, r.Err, ok)
	}
	w.compare(t)
}

// taken compares what a debit drew with the model.
func (w *moneyTwins) taken(t *rapid.T, what string, parts []part, ok bool, r *Reply) {
	if (r.Err == nil) != ok {
		t.Fatalf("%s: %v, the model says %t", what, r.Err, ok)
	}
	if !ok && r.Err.Code != events.InsufficientCredits {
		t.Fatalf("%s: %v", what, r.Err)
	}
	w.compare(t)
	if !ok {
		return
	}
	var drawn []part
	for _, d := range w.books.debited.Drawn {
		of := d.Grant
		if strings.HasPrefix(of, "grant_") && !w.granted[of] {
			of = "exchanged" // the model does not know its id
		}
		if n := len(drawn); n == 0 || drawn[n-1].Of != of {
			drawn = append(drawn, part{Of: of})
		}
		drawn[len(drawn)-1].Amount += int(d.Amount)
	}
	if diff := cmp.Diff(parts, drawn); diff != "" {
		t.Fatalf("%s drew (-model +writer):\n%s", what, diff)
	}
}

func (w *moneyTwins) setThresholds(t *rapid.T) {
	list := []events.Threshold{}
	for range rapid.IntRange(0, 4).Draw(t, "marks") {
		_, asset := w.place(t)
		mark := events.Threshold{Asset: asset, Environment: rapid.SampledFrom([]string{"", "test", "live"}).Draw(t, "mark's environment")}
		if rapid.Bool().Draw(t, "percent") {
			mark.Percent = rapid.Int64Range(1, 100).Draw(t, "percent")
		} else {
			mark.Amount = rapid.Int64Range(1, 150).Draw(t, "mark")
		}
		list = append(list, mark)
	}
	if r := w.f.do("a", "account.update", &ledger.UpdateAccount{Thresholds: events.Optional[[]events.Threshold]{Set: true, Value: list}}, w.f.clock.id()); r.Err != nil {
		t.Fatal(r.Err)
	}
	w.compare(t)
}

// wait lets time go by: moments, hours or days, or to the next local midnight and just
// before it.
func (w *moneyTwins) wait(t *rapid.T) {
	now := w.f.clock.now()
	d := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Hour, 7 * time.Hour, 26 * time.Hour, 40 * 24 * time.Hour, 0, 0, 0}).Draw(t, "wait")
	if d == 0 {
		zone, err := time.LoadLocation(rapid.SampledFrom([]string{"UTC", "America/New_York", "Asia/Kathmandu", "Africa/Cairo"}).Draw(t, "midnight in"))
		if err != nil {
			t.Fatal(err)
		}
		year, month, day := now.In(zone).Date()
		d = time.Date(year, month, day+1, 0, 0, 0, 0, zone).Sub(now) - time.Duration(rapid.IntRange(0, 1).Draw(t, "before it"))*time.Millisecond
	}
	w.f.clock.advance(max(d, 0))
	w.model.pass(w.f.clock.now())
}

// live waits while the writer runs, and until it has looked at the clock: days that nobody
// looked at pay nothing that is owed.
func (w *moneyTwins) live(t *rapid.T) {
	w.wait(t)
	w.f.pass(0)
}

func (w *moneyTwins) restart(t *rapid.T) {
	if err := w.f.end(); err != nil {
		t.Fatal(err)
	}
	w.wait(t)
	w.f = snapping(t, w.f.log, w.f.clock, w.snaps)
	w.f.pass(0)
}

func (w *moneyTwins) twice(verb string, cmd ledger.Command, changes bool) *Reply {
	id := w.f.clock.id()
	return w.both(verb, changes, func() *Reply { return w.f.do("a", verb, cmd, id) })
}

// both sends the same twice: what had events answers from its receipt.
func (w *moneyTwins) both(verb string, changes bool, send func() *Reply) *Reply {
	first := send()
	if second := send(); second.Replayed != changes || changes && second.Position != first.Position {
		w.t.Fatalf("%s, sent again: replayed %t at %s, first at %s, %v", verb, second.Replayed, second.Position, first.Position, second.Err)
	}
	return first
}

// compare reads what the log has more and compares every balance with the model.
func (w *moneyTwins) compare(t *rapid.T) {
	t.Helper()
	last, _ := w.f.log.Last(context.Background())
	if err := store.ReadChecked(context.Background(), w.f.log, &w.books.chain, last, w.books.commit); err != nil {
		t.Fatal(err)
	}
	for _, environment := range []string{"test", "live"} {
		for _, asset := range moneyAssets {
			b, u := w.books.places[environment+" "+asset], w.model.purse(environment, asset)
			if b.Available != int64(u.available()) || b.Posted-b.Held != b.Available {
				t.Fatalf("%s %s at %s: the log says %+v, the model has %d credits and owes %d", environment, asset, w.model.now, b, len(u.credits), u.owed)
			}
		}
	}
}

func TestModelOfSingleCredits(t *testing.T) {
	p := &purses{all: map[string]*purse{}, plan: &purseTerms{overdraft: map[string]int{"usd": 3}, par: [][2]string{{"usd", "usdc"}}}}
	p.add(p.purse("test", "usdc"), 25, credit{of: "g"})
	if _, ok := p.take("test", "usd", 6); ok {
		t.Error("took 6 of 2 and an overdraft of 3")
	}
	parts, ok := p.take("test", "usd", 5)
	if diff := cmp.Diff([]part{{"exchanged", 2}, {"overdraft", 3}}, parts); diff != "" || !ok || p.purse("test", "usdc").available() != 5 {
		t.Errorf("took %v, %t; %d usdc are left", parts, ok, p.purse("test", "usdc").available())
	}
}
