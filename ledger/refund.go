package ledger

import (
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

func (st *State) evolveRefunded(account string, d *events.Refunded) {
	st.moved(account, &d.Balance, nil, d.Returned, false)
	id, err := ulid.ParseStrict(strings.TrimPrefix(d.Debit, debitIDPrefix))
	a := st.accounts[account]
	if err != nil || a == nil {
		return
	}
	if a.extra().refunded == nil {
		a.more.refunded = map[ulid.ULID]int64{}
	}
	a.more.refunded[id] = d.Refund.Refunded
}
