package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"
)

const (
	// owner is the name of accounts and keys that are made here, by which they are known
	// again.
	owner = "keyledger bench"
	// grantEach is what an account gets when it has less than enough: more than any run
	// can take, and little enough for several grants.
	grantEach = int64(1) << 48
	enough    = int64(1) << 46
	// atOnce is how many set-up and look-up requests are under way.
	atOnce = 32
	// requestTimeout bounds one of them.
	requestTimeout = 10 * time.Second
	// mismatchesShown bounds an error message.
	mismatchesShown = 5
)

// Terms are what accounts of a benchmark buy under.
type Terms struct {
	open, update string // bodies of account.open, and of account.update where it is not empty
	credits      int64  // that come with it
	class        string // of keys' assets
}

// Plain terms have prices and a rate that no run reaches, so that a decision goes all the
// way.
var Plain = Terms{
	open:  `{"name":"` + owner + `","plan":{"name":"bench",` + prices + `}}`,
	class: "any",
}

// EveryRule is terms under which a decision meets every rule there is.
var EveryRule = Terms{
	open: `{"name":"` + owner + `","plan":{"name":"bench rules",` + prices + `,"max_keys":1000,` +
		`"allowance":{"asset":"credits","amount":70368744177664,"every":"month","time_zone":"Asia/Kathmandu"},` +
		`"overdraft":{"credits":1000},"par":[["credits","tokens"]],` +
		`"assets":{"credits":{"class":"fiat","scale":2},"tokens":{"class":"fiat","scale":2}}}}`,
	update:  `{"thresholds":[{"asset":"credits","percent":20},{"asset":"credits","amount":1000},{"asset":"tokens","amount":5}]}`,
	credits: 70_368_744_177_664, // the allowance
	class:   "fiat",
}

const prices = `"price":{"asset":"credits","default":2,"per":{"payments:read":1}},"rate":{"per_second":1000000,"burst":1000000}`

// Books is what is known of the accounts: each one's balance must be what it was at the
// start less what was acknowledged since.
type Books struct {
	Names []string
	terms Terms
	start []int64 // credits at the start
	taken []int64 // since
	done  int64   // commands that took them
	keys  []key
}

// key is one of Keys', to be revoked again.
type key struct{ account, id string }

// AccountNames are n names that begin with a prefix.
func AccountNames(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%05d", prefix, i)
	}
	return names
}

// OpenBooks opens the accounts, or finds them as an earlier run left them, and grants
// credits where they are missing. An account that holds anything that is not of a run
// is an error, before anything is changed in any account that exists.
func OpenBooks(ctx context.Context, conn *nats.Conn, names []string, terms Terms) (*Books, error) {
	b := &Books{Names: names, terms: terms, start: make([]int64, len(names)), taken: make([]int64, len(names))}
	err := b.each(func(i int, name string) error {
		_, err := request(ctx, conn, "keyledger.cmd."+name+".account.open", []byte(terms.open))
		var refused *refusal
		if err == nil {
			b.start[i] = terms.credits
			if terms.update != "" {
				_, err = request(ctx, conn, "keyledger.cmd."+name+".account.update", []byte(terms.update))
			}
		}
		if !errors.As(err, &refused) || refused.code != "already_exists" {
			return err
		}
		if err = checkOurs(ctx, conn, name); err == nil {
			b.start[i], err = BalanceQuery(ctx, conn, name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	grant := fmt.Appendf(nil, `{"environment":"test","asset":"credits","amount":%d}`, grantEach)
	return b, b.each(func(i int, name string) error {
		if b.start[i] >= enough {
			return nil
		}
		b.start[i] += grantEach
		_, err := request(ctx, conn, "keyledger.cmd."+name+".credit.grant", grant)
		return err
	})
}

// KnownBooks are those of accounts that exist and hold so many credits each.
func KnownBooks(names []string, credits int64) *Books {
	return &Books{Names: names, start: slices.Repeat([]int64{credits}, len(names)), taken: make([]int64, len(names))}
}

// each calls f for every account, several at once.
func (b *Books) each(f func(i int, name string) error) error {
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i, name := range b.Names {
		group.Go(func() error { return f(i, name) })
	}
	return group.Wait()
}

// checkOurs says what an account holds that no run left there.
func checkOurs(ctx context.Context, conn *nats.Conn, name string) error {
	type named struct {
		Name string `json:"name"`
	}
	var found struct {
		Account   named   `json:"account"`
		Keys      []named `json:"keys"`
		Endpoints []named `json:"endpoints"`
	}
	for verb, body := range map[string]string{
		"account.get": `{}`, "key.list": `{"status":"active","limit":500}`, "endpoint.list": `{"limit":1}`,
	} {
		reply, err := request(ctx, conn, "keyledger.query."+name+"."+verb, []byte(body))
		if err != nil {
			return err
		}
		if err := json.Unmarshal(reply.Data, &found); err != nil {
			return fmt.Errorf("%s of %s: %w", verb, name, err)
		}
	}
	what := ""
	for _, k := range found.Keys {
		if k.Name != owner {
			what = "a key called " + k.Name
		}
	}
	if len(found.Endpoints) > 0 {
		what = "a webhook endpoint"
	}
	if found.Account.Name != owner {
		what = "another name, " + found.Account.Name
	}
	if what != "" {
		return fmt.Errorf("account %s is not one of a benchmark's: it has %s", name, what)
	}
	return nil
}

// debitBody is the command that is sent over and over, under a fresh id each time.
var debitBody = []byte(`{"environment":"test","asset":"credits","amount":1,"reference":"bench"}`)

// Debits debits each account.
func (b *Books) Debits() []Target {
	list := make([]Target, len(b.Names))
	for i, name := range b.Names {
		list[i] = Target{Subject: "keyledger.cmd." + name + ".credit.debit", Body: debitBody, Account: i, Cost: 1}
	}
	return list
}

// Allowed stands in the answer to an authorisation that was allowed.
var Allowed = []byte(`"allowed":true`)

// keyKinds are the keys that accounts have, in turn, and what is asked with each.
var keyKinds = []struct {
	create, ask string
	cost        int64 // by the accounts' plan
}{
	{`{"environment":"test","name":"` + owner + `"}`,
		`"product":"payments","access":"read","ip":"198.51.100.23"`, 1},
	{`{"environment":"test","name":"` + owner + `","ip_allowlist":["203.0.113.0/24","2001:db8::/32"]}`,
		`"product":"payments","access":"read","ip":"203.0.113.7"`, 1},
	{`{"environment":"test","name":"` + owner + `","kind":"restricted","permissions":["payments:read","reports:*","users:read"]}`,
		`"product":"reports","access":"write","ip":"198.51.100.23"`, 2},
	{`{"environment":"test","name":"` + owner + `","kind":"restricted","permissions":["payments:read"],"ip_allowlist":["198.51.100.0/24","203.0.113.0/25"]}`,
		`"product":"payments","access":"read","ip":"203.0.113.7"`, 1},
}

// Keys creates a key in each account, of different kinds, half of them in accounts with a
// list of products, and returns an authorisation with each.
func (b *Books) Keys(ctx context.Context, conn *nats.Conn) ([]Target, error) {
	list := make([]Target, len(b.Names))
	keys := make([]key, len(b.Names))
	err := b.each(func(i int, name string) error {
		if i%2 == 1 {
			products := []byte(`{"environment":"test","products":["payments","reports","users"]}`)
			if _, err := request(ctx, conn, "keyledger.cmd."+name+".account.set_products", products); err != nil {
				return err
			}
		}
		kind := &keyKinds[i%len(keyKinds)]
		reply, err := request(ctx, conn, "keyledger.cmd."+name+".key.create",
			[]byte(strings.TrimSuffix(kind.create, "}")+`,"asset_class":"`+b.terms.class+`"}`))
		if err != nil {
			return err
		}
		var made struct {
			Key struct {
				ID string `json:"id"`
			} `json:"key"`
			Secret string `json:"secret"`
		}
		if err := json.Unmarshal(reply.Data, &made); err != nil || made.Secret == "" {
			return fmt.Errorf("key.create of %s: no secret (%v)", name, err)
		}
		keys[i] = key{name, made.Key.ID}
		body := fmt.Appendf(nil, `{"secret":"%s",%s}`, made.Secret, kind.ask)
		list[i] = Target{Subject: "keyledger.authorize", Body: body, Account: i, Cost: kind.cost}
		return nil
	})
	for _, k := range keys {
		if k.id != "" {
			b.keys = append(b.keys, k)
		}
	}
	return list, err
}

// RevokeKeys revokes what Keys created.
func (b *Books) RevokeKeys(ctx context.Context, conn *nats.Conn) error {
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, k := range b.keys {
		group.Go(func() error {
			_, err := request(ctx, conn, "keyledger.cmd."+k.account+".key.revoke", []byte(`{"key":"`+k.id+`"}`))
			return err
		})
	}
	b.keys = nil
	return group.Wait()
}

// Sample sends one command, to know how large an answer is.
func (b *Books) Sample(ctx context.Context, conn *nats.Conn, t *Target) (*nats.Msg, error) {
	reply, err := request(ctx, conn, t.Subject, t.Body)
	if err == nil {
		b.taken[t.Account] += t.Cost
		b.done++
	}
	return reply, err
}

// Add counts what a run had acknowledged.
func (b *Books) Add(o *Outcome) {
	for i, n := range o.Taken {
		b.taken[i] += n
	}
	b.done += o.Done
}

// Reconcile asks for every balance and compares. It returns how many commands agree.
func (b *Books) Reconcile(ctx context.Context, conn *nats.Conn, ask Balance) (int64, error) {
	wrong := make([]error, len(b.Names))
	err := b.each(func(i int, name string) error {
		posted, err := ask(ctx, conn, name)
		if want := b.start[i] - b.taken[i]; err == nil && posted != want {
			wrong[i] = fmt.Errorf("%s has %d, must have %d: %d credits too many were taken", name, posted, want, want-posted)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	var shown []error
	for _, err := range wrong {
		if err != nil && len(shown) < mismatchesShown {
			shown = append(shown, err)
		}
	}
	if len(shown) > 0 {
		return b.done, fmt.Errorf("balances do not agree with what was acknowledged: %w", errors.Join(shown...))
	}
	return b.done, nil
}

// Balance tells an account's credits, as of after all that was acknowledged.
type Balance func(ctx context.Context, conn *nats.Conn, account string) (int64, error)

// BalanceQuery is the Balance that the views tell.
func BalanceQuery(ctx context.Context, conn *nats.Conn, account string) (int64, error) {
	reply, err := request(ctx, conn, "keyledger.query."+account+".balance.get", []byte(`{"environment":"test","asset":"credits"}`))
	if err != nil {
		return 0, err
	}
	return posted(reply)
}

// BalanceDebit is the Balance before one more debit, as that debit's answer tells it: for
// a keyledger without views.
func BalanceDebit(ctx context.Context, conn *nats.Conn, account string) (int64, error) {
	reply, err := request(ctx, conn, "keyledger.cmd."+account+".credit.debit", debitBody)
	if err != nil {
		return 0, err
	}
	after, err := posted(reply)
	return after + 1, err
}

func posted(reply *nats.Msg) (int64, error) {
	var body struct {
		Balance struct {
			Posted *int64 `json:"posted"`
		} `json:"balance"`
	}
	if err := json.Unmarshal(reply.Data, &body); err != nil || body.Balance.Posted == nil {
		return 0, fmt.Errorf("%q is no balance (%v)", reply.Data, err)
	}
	return *body.Balance.Posted, nil
}

// refusal is an error reply.
type refusal struct{ subject, code, body string }

// Error implements error.
func (r *refusal) Error() string { return r.subject + ": " + r.code + ": " + r.body }

// request sends one command or strict query and returns its result.
func request(ctx context.Context, conn *nats.Conn, subject string, body []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	header := nats.Header{HeaderID: {ulid.Make().String()}}
	if strings.HasPrefix(subject, "keyledger.query.") {
		header = nats.Header{"Keyledger-Consistency": {"strict"}}
	}
	reply, err := conn.RequestMsgWithContext(ctx, &nats.Msg{Subject: subject, Header: header, Data: body})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", subject, err)
	}
	if code := errorCode(reply); code != "" {
		return nil, &refusal{subject, code, string(reply.Data)}
	}
	return reply, nil
}
