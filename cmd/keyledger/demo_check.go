package main

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyledger/keyledger/testing/receiver"
)

// The demo's own count of what must come out. It knows nothing of keys, grants or
// commits: only that an address has credits for so many requests.
const (
	affordable  = 20 // requests an address has credits for
	keyEvents   = 1  // events an endpoint is owed for the key
	setUpEvents = 4  // events that open an account: account, grant, endpoint, key
)

// expectedDebits is how many requests of each address must be allowed.
func expectedDebits(visits []visit) map[netip.Addr]int {
	count := map[netip.Addr]int{}
	for _, v := range visits {
		if count[v.addr] < affordable {
			count[v.addr]++
		}
	}
	return count
}

// exhausted is how many events say that an address's credits are used up.
func exhausted(debits int) int {
	if debits == affordable {
		return 1
	}
	return 0
}

// maxDifferences is how many differences are listed one by one.
const maxDifferences = 20

// differ notes a difference.
func (d *demo) differ(format string, args ...any) {
	d.differences = append(d.differences, fmt.Sprintf(format, args...))
}

// reconcile compares what the ledger and the receiver say with the independent count.
func (d *demo) reconcile() {
	expected := expectedDebits(d.visits)
	allowed, used := 0, 0
	for _, x := range d.accounts {
		n := expected[x.addr]
		allowed += n
		used += exhausted(n)
		if x.allowed != n {
			d.differ("account %s: %d requests were allowed, not %d", x.id, x.allowed, n)
		}
		if want := int64(n * demoCost); x.taken != want {
			d.differ("account %s: its answers took %d credits, not %d", x.id, x.taken, want)
		}
		if want := int64(demoGrant - n*demoCost); x.balance != want {
			d.differ("account %s: its balance is %d, not %d", x.id, x.balance, want)
		}
		d.reconcileWebhooks(x, n)
	}
	refused := 0
	for code, n := range d.refused {
		refused += n
		if code != "insufficient_credits" {
			d.differ("%d requests were refused with %s, none should have been", n, code)
		}
	}
	if want := len(d.visits) - allowed; refused != want {
		d.differ("%d requests were refused, not %d", refused, want)
	}
	if want := setUpEvents*len(d.accounts) + allowed + used; d.events != want {
		d.differ("the log holds %d events, not %d", d.events, want)
	}
	if t := d.hooks.Totals(); t.BadSignatures+t.Malformed+t.Unknown+t.Changed > 0 {
		d.differ("the receiver got %d bad signatures, %d malformed requests, %d to unknown paths and %d events that changed between attempts",
			t.BadSignatures, t.Malformed, t.Unknown, t.Changed)
	}
}

// reconcileWebhooks compares the events that the receiver verified for an account with
// the debits its answers named: each exactly once, with the key's event and the one that
// says that nothing is left, numbered from 1 without a gap.
func (d *demo) reconcileWebhooks(x *demoAccount, expected int) {
	got := d.hooks.Events(x.path())
	if want := expected + keyEvents + exhausted(expected); len(got) != want {
		d.differ("account %s: %d events were delivered, not %d", x.id, len(got), want)
	}
	missing := maps.Clone(x.debits)
	keys, ends := 0, 0
	var numbers []int
	for i := range got {
		if n, err := strconv.Atoi(got[i].Sequence); err == nil {
			numbers = append(numbers, n)
		}
		switch got[i].Type {
		case "dev.keyledger.key.created.v1":
			keys++
		case "dev.keyledger.credit.debited.v1":
			id := debitID(&got[i])
			if _, owed := missing[id]; !owed {
				d.differ("account %s: a debit %q was delivered that no answer named, or twice", x.id, id)
			}
			delete(missing, id)
		case "dev.keyledger.balance.exhausted.v1":
			ends++
		default:
			d.differ("account %s: an event %s was delivered", x.id, got[i].Type)
		}
	}
	if keys != keyEvents {
		d.differ("account %s: %d key events were delivered, not %d", x.id, keys, keyEvents)
	}
	if ends != exhausted(expected) {
		d.differ("account %s: %d events said that nothing is left, not %d", x.id, ends, exhausted(expected))
	}
	if len(missing) > 0 {
		d.differ("account %s: %d debits were not delivered", x.id, len(missing))
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		if n != i+1 {
			d.differ("account %s: its deliveries are not numbered from 1 without a gap (%d stands at place %d)", x.id, n, i+1)
			break
		}
	}
	if len(numbers) != len(got) {
		d.differ("account %s: %d deliveries bear no number", x.id, len(got)-len(numbers))
	}
}

// debitID is the id in a debit's data.
func debitID(e *receiver.Event) string {
	var data struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(e.Data, &data) != nil {
		return ""
	}
	return data.ID
}

// demoTotals is what the demo prints.
type demoTotals struct {
	Requests     int            `json:"requests"`
	BadLines     []badLine      `json:"bad_lines"` // of the access log
	Accounts     int            `json:"accounts"`
	Allowed      int            `json:"allowed"`
	Refused      map[string]int `json:"refused"` // by code
	CreditsTaken int64          `json:"credits_taken"`
	Events       int            `json:"events"`
	Deliveries   struct {
		Received   int `json:"received"`
		Verified   int `json:"verified"`
		Duplicates int `json:"duplicates"`
	} `json:"deliveries"`
	Seconds     float64  `json:"seconds"`
	Differences []string `json:"differences"`
	Directory   string   `json:"directory,omitzero"` // where it was kept
}

func (d *demo) totals(bad []badLine, took time.Duration) *demoTotals {
	t := &demoTotals{
		Requests: len(d.visits), BadLines: bad, Accounts: len(d.accounts), Refused: d.refused,
		Events: d.events, Seconds: took.Round(time.Millisecond).Seconds(), Differences: d.differences,
	}
	for _, x := range d.accounts {
		t.Allowed += x.allowed
		t.CreditsTaken += x.taken
	}
	if d.hooks != nil {
		got := d.hooks.Totals()
		t.Deliveries.Received, t.Deliveries.Verified, t.Deliveries.Duplicates = got.Requests, got.Verified, got.Duplicates
	}
	return t
}

// showTotals prints the totals. A difference ends the command with exit code 1.
func (a *app) showTotals(t *demoTotals) error {
	if a.json {
		if err := printJSON(a.out, t); err != nil {
			return err
		}
	} else if err := a.tableTotals(t); err != nil {
		return err
	}
	if t.Directory != "" {
		a.note("the data directory is kept; serve it with: keyledger serve --data-dir %s", t.Directory)
	}
	if n := len(t.Differences); n > 0 {
		return fmt.Errorf("%d differences between the ledger, the receiver and the demo's own count", n)
	}
	return nil
}

func (a *app) tableTotals(totals *demoTotals) error {
	t := newTable(a.out)
	t.row("requests", grouped(int64(totals.Requests)))
	for i, line := range totals.BadLines {
		if i == maxDifferences {
			t.row("bad line", fmt.Sprintf("and %d more", len(totals.BadLines)-i))
			break
		}
		t.row("bad line", fmt.Sprintf("%d: %s", line.Number, line.Reason))
	}
	t.row("accounts", grouped(int64(totals.Accounts)))
	t.row("allowed", grouped(int64(totals.Allowed)))
	for _, code := range slices.Sorted(maps.Keys(totals.Refused)) {
		t.row("refused", fmt.Sprintf("%s %s", grouped(int64(totals.Refused[code])), code))
	}
	t.row("credits taken", grouped(totals.CreditsTaken))
	t.row("events", grouped(int64(totals.Events)))
	deliveries := totals.Deliveries
	t.row("deliveries", fmt.Sprintf("%s received, %s verified, %s duplicates",
		grouped(int64(deliveries.Received)), grouped(int64(deliveries.Verified)), grouped(int64(deliveries.Duplicates))))
	t.row("time", fmt.Sprintf("%.1f s", totals.Seconds))
	for i, difference := range totals.Differences {
		if i == maxDifferences {
			t.row("DIFFERENCE", fmt.Sprintf("and %d more", len(totals.Differences)-i))
			break
		}
		t.row("DIFFERENCE", difference)
	}
	if len(totals.Differences) == 0 {
		t.row("reconciled", "answers, balances, log and webhooks agree with an independent count")
	}
	return t.w.Flush()
}
