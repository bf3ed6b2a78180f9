package faults

import (
	"fmt"

	"github.com/anishathalye/porcupine"

	"github.com/keyledger/keyledger/events"
)

// verb is what a client asks for.
type verb int

const (
	grantCredits verb = iota
	debitCredits
	authorizeKey // with a cost, or free with amount 0
	disableKey
	enableKey
	readBalance // strict
	verbs
)

// ask is one operation: a retry with the same id is the same operation.
type ask struct {
	verb    verb
	account int
	amount  int64
}

// told is the answer to it.
type told struct {
	code     events.Code
	balance  int64  // available after it, where the answer has one
	status   string // of the key
	position string // of the last event, or of the state that was decided on
	replayed bool
}

// settled says whether the answer is definite.
func (o told) settled() bool { return o.code != events.OutcomeUnknown && o.code != events.Unavailable }

// books is the sequential model of one account: a number, and a key that works or not.
type books struct {
	balance  int64
	disabled bool
}

// step says whether o can be the answer to a in this state, and what the state is then.
// An operation whose outcome nobody was told may have happened wherever it could.
func (b books) step(a ask, o told) (bool, books) {
	want := told{code: events.OK}
	next := b
	switch a.verb {
	case grantCredits:
		next.balance += a.amount
		want.balance = next.balance
	case debitCredits:
		if a.amount > b.balance {
			want.code = events.InsufficientCredits
			break
		}
		next.balance -= a.amount
		want.balance = next.balance
	case authorizeKey:
		switch {
		case b.disabled:
			want.code = events.KeyDisabled
		case a.amount > b.balance:
			want.code, want.balance = events.InsufficientCredits, b.balance
		default:
			next.balance -= a.amount
			want.balance = next.balance
		}
	case disableKey, enableKey:
		next.disabled = a.verb == disableKey
		want.status = events.Active
		if next.disabled {
			want.status = events.Disabled
		}
	case readBalance:
		want.balance = b.balance
	}
	if o.code == events.OutcomeUnknown {
		return true, next
	}
	return o.code == want.code && o.balance == want.balance && o.status == want.status, next
}

// booksModel is the model as porcupine takes it: linearizable account by account.
var booksModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		var parts [][]porcupine.Operation
		index := map[int]int{}
		for _, o := range history {
			account := o.Input.(ask).account
			i, ok := index[account]
			if !ok {
				i = len(parts)
				index[account], parts = i, append(parts, nil)
			}
			parts[i] = append(parts[i], o)
		}
		return parts
	},
	Init: func() any { return books{} },
	Step: func(state, input, output any) (bool, any) {
		return state.(books).step(input.(ask), output.(told))
	},
	DescribeOperation: func(input, output any) string {
		a, o := input.(ask), output.(told)
		name := [verbs]string{"grant", "debit", "authorize", "disable", "enable", "balance"}[a.verb]
		return fmt.Sprintf("%s %d → %s %d %s at %s", name, a.amount, o.code, o.balance, o.status, o.position)
	},
	DescribeState: func(state any) string {
		return fmt.Sprintf("%+v", state)
	},
}
