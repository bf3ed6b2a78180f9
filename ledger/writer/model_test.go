package writer

import (
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

// naive is a second model of accounts, keys and credits. It shares nothing with package
// ledger: words as they stand in the contract, and plain arithmetic.
type naive struct {
	accounts map[string]string        // id to status
	grants   map[string][]*naiveGrant // of "account asset", oldest first
	keys     map[string]*naiveKey
}

type naiveGrant struct {
	left     int64
	priority int64
}

type naiveKey struct{ account, status string }

// outcome is what the model predicts and what is compared.
type outcome struct {
	Code    string
	Balance int64   // after it
	Status  string  // of the account or key
	Drawn   []int64 // from grants, in burn order
	Changed bool    // there is an event
}

const naiveMost = 9007199254740991

func (n *naive) sum(place string) (total int64) {
	for _, g := range n.grants[place] {
		total += g.left
	}
	return total
}

// guard is what is refused before the verb's own rule.
func (n *naive) guard(account string, whileSuspended bool) string {
	switch status := n.accounts[account]; {
	case status == "":
		return "not_found"
	case status == "suspended" && !whileSuspended:
		return "account_suspended"
	}
	return "ok"
}

func (n *naive) open(account string) outcome {
	if n.accounts[account] != "" {
		return outcome{Code: "already_exists"}
	}
	n.accounts[account] = "active"
	return outcome{Code: "ok", Status: "active", Changed: true}
}

func (n *naive) setAccount(account, status string) outcome {
	if code := n.guard(account, true); code != "ok" {
		return outcome{Code: code}
	}
	changed := n.accounts[account] != status
	n.accounts[account] = status
	return outcome{Code: "ok", Status: status, Changed: changed}
}

func (n *naive) grant(account, asset string, amount, priority int64) outcome {
	if code := n.guard(account, true); code != "ok" {
		return outcome{Code: code}
	}
	place := account + " " + asset
	if n.sum(place)+amount > naiveMost {
		return outcome{Code: "limit_exceeded"}
	}
	n.grants[place] = append(n.grants[place], &naiveGrant{amount, priority})
	return outcome{Code: "ok", Balance: n.sum(place), Changed: true}
}

func (n *naive) debit(account, asset, key string, amount int64) outcome {
	if code := n.guard(account, false); code != "ok" {
		return outcome{Code: code}
	}
	if key != "" && (n.keys[key] == nil || n.keys[key].account != account) {
		return outcome{Code: "not_found"}
	}
	if n.sum(account+" "+asset) < amount {
		return outcome{Code: "insufficient_credits"}
	}
	return n.take(account+" "+asset, amount)
}

// adjust adds what lasts, or takes what there is.
func (n *naive) adjust(account, asset string, amount int64) outcome {
	if amount > 0 {
		return n.grant(account, asset, amount, 0)
	}
	if code := n.guard(account, true); code != "ok" {
		return outcome{Code: code}
	}
	if n.sum(account+" "+asset) < -amount {
		return outcome{Code: "insufficient_credits"}
	}
	return n.take(account+" "+asset, -amount)
}

func (n *naive) transfer(from, to, asset string, amount int64) outcome {
	code := n.guard(from, true)
	switch {
	case code != "ok":
		return outcome{Code: code}
	case from == to:
		return outcome{Code: "invalid_argument"}
	case n.accounts[to] == "":
		return outcome{Code: "not_found"}
	case n.sum(to+" "+asset)+amount > naiveMost:
		return outcome{Code: "limit_exceeded"}
	case n.sum(from+" "+asset) < amount:
		return outcome{Code: "insufficient_credits"}
	}
	n.grants[to+" "+asset] = append(n.grants[to+" "+asset], &naiveGrant{amount, 0})
	return n.take(from+" "+asset, amount)
}

// take draws the grants one credit after the other would be drawn: low priority first,
// then the oldest.
func (n *naive) take(place string, amount int64) outcome {
	out := outcome{Code: "ok", Changed: true}
	for priority := int64(-2); priority <= 2; priority++ {
		for _, g := range n.grants[place] {
			if g.priority != priority || g.left == 0 || amount == 0 {
				continue
			}
			part := min(g.left, amount)
			g.left, amount = g.left-part, amount-part
			out.Drawn = append(out.Drawn, part)
		}
	}
	out.Balance = n.sum(place)
	return out
}

func (n *naive) createKey(account, key string) outcome {
	if code := n.guard(account, false); code != "ok" {
		return outcome{Code: code}
	}
	n.keys[key] = &naiveKey{account, "active"}
	return outcome{Code: "ok", Status: "active", Changed: true}
}

func (n *naive) setKey(account, key, status string) outcome {
	if code := n.guard(account, true); code != "ok" {
		return outcome{Code: code}
	}
	k := n.keys[key]
	switch {
	case k == nil || k.account != account:
		return outcome{Code: "not_found"}
	case k.status == status:
		return outcome{Code: "ok", Status: status}
	case k.status == "revoked":
		return outcome{Code: "failed_precondition"}
	}
	k.status = status
	return outcome{Code: "ok", Status: status, Changed: true}
}

// authorize prices a request that names no cost at 100 a unit.
func (n *naive) authorize(key string, cost, units int64) outcome {
	if cost < 0 {
		cost = 100 * units
	}
	k := n.keys[key]
	if k == nil {
		return outcome{Code: "key_not_found"}
	}
	switch {
	case n.accounts[k.account] != "active":
		return outcome{Code: "account_suspended"}
	case k.status != "active":
		return outcome{Code: "key_" + k.status}
	}
	place := k.account + " credits"
	switch balance := n.sum(place); {
	case balance < cost:
		return outcome{Code: "insufficient_credits", Balance: balance}
	case cost == 0:
		return outcome{Code: "ok", Balance: balance}
	}
	out := n.take(place, cost)
	out.Drawn = nil // the answer does not say
	return out
}

// twins is the writer and the naive model, side by side.
type twins struct {
	t     *rapid.T
	f     *fixture
	model *naive
	ids   []string          // of keys: made ones, and one that never was
	sent  map[string]string // secret by key id
	past  []func()          // ask again what had an event, and compare
}

// What a writer does with random commands is what a naive model does. Each command is
// sent twice with the same id and happens once; after a restart, which replays the whole
// log, all is as before. rapid prints the seed of a failure; -rapid.seed takes it back.
func TestRandomCommandsAgainstANaiveModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log, c := new(store.Memory), newClock()
		w := &twins{
			t: t, f: run(t, log, c), sent: map[string]string{},
			model: &naive{accounts: map[string]string{}, grants: map[string][]*naiveGrant{}, keys: map[string]*naiveKey{}},
		}
		w.newKey() // never created
		t.Repeat(map[string]func(*rapid.T){
			"account": w.account, "grant": w.grant, "debit": w.debit, "create key": w.createKey, "key": w.key,
			"adjust": w.adjust, "transfer": w.transfer, "authorize": w.authorize, "again": w.authorize, "more": w.debit,
			"restart": w.restart,
		})
		w.restart(t)
		for _, again := range w.past {
			again()
		}
		for _, id := range w.ids {
			w.ask(id, 0, 1)
		}
		if err := w.f.end(); err != nil {
			t.Fatal(err)
		}
	})
}

func (w *twins) restart(t *rapid.T) {
	if err := w.f.end(); err != nil {
		t.Fatal(err)
	}
	w.f.clock.advance(time.Duration(rapid.IntRange(0, 1000).Draw(t, "pause")) * time.Millisecond)
	w.f = run(t, w.f.log, w.f.clock)
}

func drawAccount(t *rapid.T) string { return rapid.SampledFrom([]string{"a", "b"}).Draw(t, "account") }
func drawAsset(t *rapid.T) string {
	return rapid.SampledFrom([]string{"credits", "usd"}).Draw(t, "asset")
}

func drawAmount(t *rapid.T) int64 {
	return rapid.OneOf(rapid.Int64Range(1, 300), rapid.Int64Range(naiveMost-300, naiveMost)).Draw(t, "amount")
}

func (w *twins) drawKey(t *rapid.T) string { return rapid.SampledFrom(w.ids).Draw(t, "key") }

func (w *twins) account(t *rapid.T) {
	account := drawAccount(t)
	switch rapid.IntRange(0, 3).Draw(t, "what") {
	case 0:
		w.twice(account, "account.suspend", new(ledger.SuspendAccount), func() outcome { return w.model.setAccount(account, "suspended") })
	case 1:
		w.twice(account, "account.resume", new(ledger.ResumeAccount), func() outcome { return w.model.setAccount(account, "active") })
	default:
		w.twice(account, "account.open", new(ledger.OpenAccount), func() outcome { return w.model.open(account) })
	}
}

func (w *twins) grant(t *rapid.T) {
	account, asset, amount, priority := drawAccount(t), drawAsset(t), drawAmount(t), rapid.Int64Range(-2, 2).Draw(t, "priority")
	cmd := &ledger.GrantCredit{Environment: events.Test, Asset: asset, Amount: amount, Priority: priority}
	w.twice(account, "credit.grant", cmd, func() outcome { return w.model.grant(account, asset, amount, priority) })
}

func (w *twins) debit(t *rapid.T) {
	account, asset, amount, key := drawAccount(t), drawAsset(t), drawAmount(t), ""
	if rapid.Bool().Draw(t, "with a key") {
		key = w.drawKey(t)
	}
	cmd := &ledger.DebitCredit{Environment: events.Test, Asset: asset, Amount: amount, Key: key}
	w.twice(account, "credit.debit", cmd, func() outcome { return w.model.debit(account, asset, key, amount) })
}

func (w *twins) adjust(t *rapid.T) {
	account, asset, amount := drawAccount(t), drawAsset(t), drawAmount(t)
	if rapid.Bool().Draw(t, "down") {
		amount = -amount
	}
	cmd := &ledger.AdjustCredit{Environment: events.Test, Asset: asset, Amount: amount, Reason: "r"}
	w.twice(account, "credit.adjust", cmd, func() outcome { return w.model.adjust(account, asset, amount) })
}

func (w *twins) transfer(t *rapid.T) {
	from, to, asset, amount := drawAccount(t), drawAccount(t), drawAsset(t), drawAmount(t)
	cmd := &ledger.TransferCredit{To: to, Environment: events.Test, Asset: asset, Amount: amount}
	w.twice(from, "credit.transfer", cmd, func() outcome { return w.model.transfer(from, to, asset, amount) })
}

// newKey makes a key as the edge does.
func (w *twins) newKey() *ledger.CreateKey {
	id := ulid.ULID{15: byte(len(w.ids) + 1)}
	secret := ledger.NewSecret(events.Test, "a", id, sha256.Sum256(id[:]))
	w.ids = append(w.ids, "key_"+id.String())
	w.sent["key_"+id.String()] = secret
	return &ledger.CreateKey{Environment: events.Test, Name: "k", KeyID: id, Hash: sha256.Sum256([]byte(secret)), Prefix: ledger.SecretPrefix(secret)}
}

func (w *twins) createKey(t *rapid.T) {
	if len(w.ids) > 5 {
		t.Skip("enough keys")
	}
	account, cmd := drawAccount(t), w.newKey()
	id := "key_" + cmd.KeyID.String()
	w.twice(account, "key.create", cmd, func() outcome { return w.model.createKey(account, id) })
}

func (w *twins) key(t *rapid.T) {
	account, id := drawAccount(t), w.drawKey(t)
	status := rapid.SampledFrom([]string{"active", "disabled", "revoked"}).Draw(t, "status")
	verb := map[string]string{"active": "key.enable", "disabled": "key.disable", "revoked": "key.revoke"}[status]
	cmd := specOf(verb).New()
	if err := events.DecodeStrict([]byte(`{"key":"`+id+`"}`), cmd); err != nil {
		t.Fatal(err)
	}
	w.twice(account, verb, cmd, func() outcome { return w.model.setKey(account, id, status) })
}

func (w *twins) authorize(t *rapid.T) {
	w.ask(w.drawKey(t), rapid.Int64Range(-1, 300).Draw(t, "cost"), rapid.Int64Range(1, 3).Draw(t, "units"))
}

// ask authorises; a cost below 0 leaves it to the price.
func (w *twins) ask(key string, cost, units int64) {
	item := &ledger.Authorize{Secret: w.sent[key], Units: &units}
	if cost >= 0 {
		item.Cost = &cost
	}
	if err := item.Validate(); err != nil {
		w.t.Fatal(err)
	}
	id, body := w.f.clock.id(), sha256.Sum256(fmt.Append(nil, key, cost, units))
	w.check("authorize", func() *Reply {
		return <-w.f.send(&Request{Authorize: item, ID: id, Receipt: true, InputHash: body})
	}, func() outcome { return w.model.authorize(key, cost, units) })
}

// twice sends a command twice with one id.
func (w *twins) twice(account, verb string, cmd ledger.Command, predict func() outcome) {
	id := w.f.clock.id()
	w.check(verb+" "+account, func() *Reply { return w.f.do(account, verb, cmd, id) }, predict)
}

// check compares both answers to one command with the model. What had an event answers
// as the first time for ever; what had none is decided again.
func (w *twins) check(what string, send func() *Reply, predict func() outcome) {
	want := predict()
	first := send()
	if diff := cmp.Diff(want, outcomeOf(first)); diff != "" {
		w.t.Fatalf("%s (-model +writer):\n%s", what, diff)
	}
	second := send()
	if !want.Changed {
		if diff := cmp.Diff(predict(), outcomeOf(second)); diff != "" {
			w.t.Fatalf("%s, sent again (-model +writer):\n%s", what, diff)
		}
		return
	}
	same := func(r *Reply) {
		if diff := cmp.Diff(want, outcomeOf(r)); diff != "" || !r.Replayed || r.Position != first.Position {
			w.t.Fatalf("%s at %s, sent again: replayed %t at %s\n%s", what, first.Position, r.Replayed, r.Position, diff)
		}
	}
	same(second)
	w.past = append(w.past, func() { same(send()) })
}

// outcomeOf is a reply in the model's words.
func outcomeOf(r *Reply) outcome {
	out := outcome{Code: "ok", Changed: strings.Contains(r.Position.String(), ".")}
	if r.Err != nil {
		return outcome{Code: string(r.Err.Code)}
	}
	if r.Answer.Code != "" {
		out.Code = string(r.Answer.Code)
		if r.Answer.Balance != nil {
			out.Balance = *r.Answer.Balance
		}
		return out
	}
	switch d := r.Data.(type) {
	case *events.Account:
		out.Status = d.Status
	case *events.Key:
		out.Status = d.Status
	case *events.Granted:
		out.Balance = d.Balance.Posted
	case *events.Debited:
		out.Balance, out.Drawn = d.Balance.Posted, amounts(d.Drawn)
	case *events.Adjusted:
		out.Balance, out.Drawn = d.Balance.Posted, amounts(d.Drawn)
	case *events.Transferred:
		out.Balance, out.Drawn = d.Balance.Posted, amounts(d.Drawn)
	}
	return out
}

func amounts(drawn []events.Draw) (list []int64) {
	for i := range drawn {
		list = append(list, drawn[i].Amount)
	}
	return list
}
