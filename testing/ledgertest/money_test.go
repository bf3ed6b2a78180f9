package ledgertest

import (
	"testing"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// draws makes a list of draws: name, amount, and so on.
func draws(list ...any) (out []events.Draw) {
	for i := 0; i < len(list); i += 2 {
		out = append(out, events.Draw{Grant: list[i].(string), Amount: int64(list[i+1].(int))})
	}
	return out
}

func balance(asset string, posted, held int64) events.Balance {
	return events.Balance{Environment: events.Test, Asset: asset, Posted: posted, Held: held, Available: posted - held}
}

// books is a history in which every type that moves money happens, by name.
type books struct {
	open, rich *events.Account
	key        *events.Key
	grant      *events.Granted
	debit      *events.Debited
	back       *events.Refunded
	daily      *events.Replenished
	spend      *events.Debited
	adjust     *events.Adjusted
	paid, got  *events.Transferred
	place      *events.Held
	capture    *events.Held
	release    *events.Held
	exchange   *events.Exchanged
	expire     *events.Expired
	end        events.Time // of the commit of expire
}

func newBooks() *books {
	test := events.Environments{Test: events.Environment{Enabled: true}}
	return &books{
		open: &events.Account{ID: "acme", Status: events.Active, Environments: test, Plan: &events.Plan{Overdraft: map[string]int64{"credits": 10}}},
		rich: &events.Account{ID: "rich", Status: events.Active, Environments: test},
		key:  &events.Key{ID: "key_1", Account: "acme", Environment: events.Test, Status: events.Active},
		grant: &events.Granted{Grant: events.Grant{ID: "grant_1", Amount: 100, ExpiresAt: 50},
			Balance: balance("credits", 100, 0)},
		debit: &events.Debited{Debit: events.Debit{ID: "debit_1", Key: "key_1", SecretAge: events.CurrentSecret, Amount: 30,
			Drawn: []events.Draw{{Grant: "grant_1", Amount: 30, ExpiresAt: 50}}}, Balance: balance("credits", 70, 0)},
		back: &events.Refunded{Refund: events.Refund{Debit: "debit_1", Amount: 20,
			Returned: []events.Draw{{Grant: "grant_1", Amount: 20, ExpiresAt: 50}}}, Balance: balance("credits", 90, 0)},
		daily: &events.Replenished{Replenishment: events.Replenishment{Amount: 10, Remaining: 10}, Balance: balance("credits", 100, 0)},
		spend: &events.Debited{Debit: events.Debit{ID: "debit_2", Amount: 105, Drawn: draws("allowance", 10, "grant_1", 90, "overdraft", 5)},
			Balance: balance("credits", -5, 0)},
		adjust: &events.Adjusted{Adjustment: events.Adjustment{Amount: 65, Added: draws("overdraft", 5, "grant_2", 60)}, Balance: balance("credits", 60, 0)},
		paid: &events.Transferred{Transfer: events.Transfer{ID: "transfer_1", From: "acme", To: "rich", Amount: 10, Drawn: draws("grant_2", 10)},
			Balance: balance("credits", 50, 0)},
		got: &events.Transferred{Transfer: events.Transfer{ID: "transfer_1", From: "acme", To: "rich", Amount: 10, Added: draws("grant_3", 10)},
			Balance: balance("credits", 10, 0)},
		place: &events.Held{Hold: events.Hold{ID: "hold_1", Amount: 20, Held: 20, Status: events.Open, Reserved: draws("grant_2", 20)},
			Balance: balance("credits", 50, 20)},
		capture: &events.Held{Hold: events.Hold{ID: "hold_1", Amount: 20, Captured: 5, Held: 15, Status: events.Open, Reserved: draws("grant_2", 15)},
			Capture: &events.Capture{Debit: "debit_3", Amount: 5, Drawn: draws("grant_2", 5)}, Balance: balance("credits", 45, 15)},
		release: &events.Held{Hold: events.Hold{ID: "hold_1", Amount: 20, Captured: 5, Status: events.Released},
			Returned: draws("grant_2", 12), Lapsed: draws("grant_1", 3), Balance: balance("credits", 42, 0)},
		exchange: &events.Exchanged{
			From: events.Leg{Asset: "credits", Amount: 2, Drawn: draws("grant_2", 2), Balance: balance("credits", 40, 0)},
			To:   events.Leg{Asset: "usd", Amount: 2, Added: draws("grant_4", 2), Balance: balance("usd", 2, 0)}},
		expire: &events.Expired{Expiry: events.Expiry{Grant: "grant_2", Amount: 40, ExpiredAt: 60}, Balance: balance("credits", 0, 0)},
		end:    60,
	}
}

// check keeps the books of the history.
func (b *books) check() error {
	m := NewMoney()
	event := func(data events.Data) store.Entry {
		return store.Entry{Events: []events.Event{{Type: "some", Account: "acme", Data: data}}}
	}
	if err := m.Add(&store.Commit{Time: 40, Entries: []store.Entry{
		event(b.open), event(b.rich), event(b.key), event(b.grant), event(b.debit), event(b.back), event(b.daily), event(b.spend), event(b.adjust),
		{Events: []events.Event{{Account: "acme", Data: b.paid}, {Account: "rich", Data: b.got}}},
		event(b.place), event(b.capture), event(b.release), event(b.exchange),
	}}); err != nil {
		return err
	}
	return m.Add(&store.Commit{Time: b.end, Entries: []store.Entry{event(b.expire)}})
}

// TestMoneyFindsWhatIsWrong: each is the good history with one thing wrong.
func TestMoneyFindsWhatIsWrong(t *testing.T) {
	if err := newBooks().check(); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	for name, spoil := range map[string]func(*books){
		"a wrong sum":                    func(b *books) { b.grant.Balance = balance("credits", 101, 0) },
		"a wrong amount":                 func(b *books) { b.debit.Amount = 31 },
		"more than there is of a grant":  func(b *books) { b.spend.Drawn = draws("grant_1", 100, "overdraft", 5) },
		"more than may be owed":          func(b *books) { b.open.Plan.Overdraft["credits"] = 4 },
		"owing while something is left":  func(b *books) { b.spend.Drawn = draws("allowance", 5, "grant_1", 90, "overdraft", 10) },
		"drawn after its time":           func(b *books) { b.debit.Drawn[0].ExpiresAt = 40 },
		"given back after its time":      func(b *books) { b.back.Returned[0].ExpiresAt = 40 },
		"refunded twice":                 func(b *books) { b.debit.ID = "debit_0" },
		"an allowance that was drawn":    func(b *books) { b.daily.Before = 1 },
		"an allowance that makes itself": func(b *books) { b.daily.Spent = 1 },
		"paid more than is owed":         func(b *books) { b.adjust.Added = draws("overdraft", 6, "grant_2", 59) },
		"a transfer that makes money": func(b *books) {
			b.got.Amount, b.got.Added, b.got.Balance = 11, draws("grant_3", 11), balance("credits", 11, 0)
		},
		"a transfer to somebody else":    func(b *books) { b.got.To = "third" },
		"a hold placed twice":            func(b *books) { b.capture.Capture = nil },
		"a hold never placed":            func(b *books) { b.place.ID = "hold_2" },
		"a capture of more than is held": func(b *books) { b.capture.Capture.Amount, b.capture.Capture.Drawn = 21, draws("grant_2", 21) },
		"a capture of other draws":       func(b *books) { b.capture.Capture.Drawn = draws("grant_2", 4) },
		"a hold that loses something":    func(b *books) { b.release.Lapsed = draws("grant_1", 2) },
		"a hold that ends with something": func(b *books) {
			b.release.Hold.Held, b.release.Reserved = 1, draws("grant_2", 1)
			b.release.Lapsed, b.release.Balance = draws("grant_1", 2), balance("credits", 43, 1)
		},
		"an exchange of nothing":        func(b *books) { b.exchange.From.Drawn = draws("grant_9", 2) },
		"an expiry of a part":           func(b *books) { b.expire.Amount, b.expire.Balance = 39, balance("credits", 1, 0) },
		"an expiry before its time":     func(b *books) { b.end = 59 },
		"a key of another account":      func(b *books) { b.key.Account = "rich" },
		"a key of another environment":  func(b *books) { b.key.Environment = events.Live },
		"a revoked key":                 func(b *books) { b.key.Status = events.Revoked },
		"a key whose expiry came":       func(b *books) { b.key.ExpiresAt = 40 },
		"a suspended account":           func(b *books) { b.open.Status = events.Suspended },
		"an environment that is not on": func(b *books) { b.open.Environments.Test.Enabled = false },
	} {
		b := newBooks()
		spoil(b)
		if err := b.check(); err == nil {
			t.Errorf("%s is not found", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}
