package projections

import (
	"context"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// Query is one question about an account, "_" for the ledger itself. Body is JSON; an
// empty one counts as {}.
type Query struct {
	Account string
	Body    []byte
}

// Answer is the answer to a Query. Result is encoded as it stands and may be kept: it is
// shared with nothing that changes. Position is that of the last commit the view had
// applied, without an index.
type Answer struct {
	Result   any
	Position events.Position
}

// QueryFunc answers one verb. Its errors are InvalidArgument, NotFound and, where a view
// it needs has failed, Unavailable with the position it failed at. Asked about now it waits
// for nothing but the application of one commit, and about all accounts, after a start, until
// all are loaded; Runner.Wait waits for a position. Asked about the past it reads the log.
// Where ctx ends first it is Unavailable.
type QueryFunc func(ctx context.Context, q *Query) (Answer, *events.Error)

// Queries is the query table: verb to function.
func (v *Views) Queries() map[string]QueryFunc {
	table := v.ours()
	v.own(table)
	return table
}

func (v *Views) ours() map[string]QueryFunc {
	return map[string]QueryFunc{
		"account.get":  query(v, v.getAccount, viewAccounts),
		"account.list": query(v, v.listAccounts, viewAccounts),
		"key.get": past(v, query(v, v.getKey, viewAccounts, ViewKeys), (*Views).getKey,
			func(b *keyBody) *moment { return &b.moment }),
		"key.list": query(v, v.listKeys, viewAccounts, ViewKeys),
		"balance.get": past(v, query(v, v.getBalance, viewAccounts, viewBalances), (*Views).getBalance,
			func(b *balanceBody) *moment { return &b.moment }),
		"hold.get":      query(v, v.getHold, viewAccounts, viewHolds),
		"hold.list":     query(v, v.listHolds, viewAccounts, viewHolds),
		"endpoint.get":  query(v, v.getEndpoint, viewAccounts, viewEndpoints),
		"endpoint.list": query(v, v.listEndpoints, viewAccounts, viewEndpoints),
	}
}

// query makes a QueryFunc of a function that answers from the views it needs. The
// function runs under the views' lock; what it returns must not change afterwards.
func query[Body any](v *Views, answer func(account string, body *Body) (any, *events.Error), needs ...string) QueryFunc {
	return func(ctx context.Context, q *Query) (Answer, *events.Error) {
		var body Body
		if err := events.DecodeStrict(q.Body, &body); err != nil {
			return Answer{}, err
		}
		if err := v.awaitAll(ctx, q.Account); err != nil {
			return Answer{}, err
		}
		var result any
		at, err := v.read([]string{q.Account}, func() (err *events.Error) {
			result, err = answer(q.Account, &body)
			return err
		}, needs...)
		if err != nil {
			return Answer{}, err
		}
		return Answer{Result: result, Position: at}, nil
	}
}

// awaitAll returns once every account is loaded, where the question is about all of them.
func (v *Views) awaitAll(ctx context.Context, account string) *events.Error {
	if account != ledgerItself {
		return nil
	}
	return v.awaitLoaded(ctx)
}

// Known says whether there is an account, "_" being the ledger itself, and the position
// that is true at. Its errors are those of a QueryFunc.
func (v *Views) Known(account string) (events.Position, *events.Error) {
	return v.read([]string{account}, func() *events.Error {
		if account == ledgerItself {
			return nil
		}
		_, err := v.accounts.get(account)
		return err
	}, viewAccounts)
}

// oneOf checks a filter, which may be left out.
func oneOf(name, value string, allowed ...string) *events.Error {
	if value == "" || slices.Contains(allowed, value) {
		return nil
	}
	return events.Errorf(events.InvalidArgument, "%s must be one of %s", name, strings.Join(allowed, ", "))
}

// wantID checks an id's form: prefix and a ULID.
func wantID(name, prefix, id string) *events.Error {
	text, ok := strings.CutPrefix(id, prefix)
	if ok {
		if _, err := ulid.ParseStrict(text); err == nil {
			return nil
		}
	}
	return events.Errorf(events.InvalidArgument, "%s must be a %s id such as %s01J…", name, name, prefix)
}
