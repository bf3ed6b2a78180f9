package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/keyledger/keyledger/events"
)

// hostile is a name that would be a script, if it were not escaped.
const hostile = `</script><script>alert("1")</script><img src=x onerror=alert(2)>{{.}}&lt;`

const (
	milliHour = events.Time(3_600_000)
	milliDay  = 24 * milliHour
)

// exampleReport is a report on 30 days with everything in it, the same each time.
func exampleReport() *reportData {
	r := rand.New(rand.NewPCG(1, 2))
	from := events.Time(1_793_491_200_000) // 2026-11-01
	d := &reportData{
		Account: &events.Account{ID: "acme", Name: "Acme " + hostile, Plan: &events.Plan{Assets: map[string]events.Asset{"usd": {Scale: 2, Class: events.Fiat}}}},
		From:    from, To: from + 29*milliDay + 15*milliHour, Made: from + 29*milliDay + 15*milliHour, By: "day",
		True: "0:184221", Status: ledgerStatus{Version: "1.2.3", Position: "0:184230", HeadHash: "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8", Events: 1_204_511},
	}
	live := environmentData{Name: events.Live}
	products := []string{"payments", "search", "reports", "", "images", hostile, "mail", "geo"}
	spans, top := &live.Spans, &live.Top
	spans.Totals = usageRow{Refusals: map[string]int64{}, Spent: map[string]int64{}, Refunded: map[string]int64{"credits": 4_000}}
	for day := range 30 {
		for i, product := range products {
			if day == 11 {
				continue
			}
			n := r.Int64N(12_000)/int64(i+1) + 40
			refused := r.Int64N(n/20 + 1)
			row := usageRow{Start: from + events.Time(day)*milliDay, Product: product, Requests: n, Refused: refused, Allowed: n - refused,
				Spent: map[string]int64{"credits": (n - refused) * 50}}
			if product == "payments" {
				row.Spent["usd"] = (n - refused) * 3
			}
			spans.Rows = append(spans.Rows, row)
			t := &spans.Totals
			t.Requests, t.Allowed, t.Refused = t.Requests+n, t.Allowed+row.Allowed, t.Refused+refused
			for asset, amount := range row.Spent {
				t.Spent[asset] += amount
			}
			t.Refusals[[]string{"rate_limited", "insufficient_credits", "ip_not_allowed", "key_expired"}[r.IntN(i%4+1)]] += refused
		}
	}
	exampleKeys(d, top, spans.Totals.Requests)
	live.Balances = exampleBalances(d, r)
	d.Environments = []environmentData{live, {Name: events.Test}}
	exampleWebhooks(d, r)
	return d
}

// exampleKeys adds keys, one of each kind that a report points out, and their requests.
func exampleKeys(d *reportData, top *usage, left int64) {
	names := []string{"backend", "mobile app", hostile, "reports nightly", "partner north", "partner south", "staging copy", "scratch", "import"}
	for i, name := range names {
		key := events.Key{
			ID: fmt.Sprintf("key_01J8Z5T0XKQ4R7N2M3V6W9Y1%02d", i), Account: "acme", Environment: events.Live, Name: name, Kind: events.Standard, Status: events.Active,
			CreatedAt: d.From - events.Time(40-8*i)*milliDay, LastUsedAt: d.To - events.Time(i*i)*milliHour,
		}
		switch i {
		case 3:
			key.ExpiresAt = d.To + 9*milliDay
		case 4:
			key.OldSecretUntil, key.RotatedAt = d.To+30*milliHour, d.To-10*milliHour
		case 5:
			key.Status, key.Reason = events.Revoked, "seen in a public repository"
		case 6:
			key.ExpiresAt = d.From
		case 7:
			key.Status = events.Disabled
		case 8:
			key.LastUsedAt, key.CreatedAt = 0, d.From-90*milliDay
		}
		d.Keys = append(d.Keys, key)
		n := left / int64(2+i)
		left -= n
		top.Rows = append(top.Rows, usageRow{Key: key.ID, Requests: n, Refused: n / int64(12+i), Allowed: n - n/int64(12+i), Spent: map[string]int64{"credits": n * 48, "usd": n / 3}})
	}
}

// exampleBalances is a balance with holds, and one that is owed at first.
func exampleBalances(d *reportData, r *rand.Rand) []balanceData {
	credits, usd := int64(8_000_000), int64(-120_000)
	held := int64(0)
	points, every := sampleTimes(d.From, d.To)
	out := []balanceData{{Asset: "credits", Every: every}, {Asset: "usd"}}
	for _, p := range points {
		credits -= r.Int64N(130_000)
		usd -= r.Int64N(4_000)
		if r.IntN(40) == 0 {
			credits += 4_000_000
			usd += 250_000
		}
		held = max(held+r.Int64N(300_000)-150_000, 0)
		c, u := p, p
		c.Posted, c.Held, c.Available = credits, held, credits-held
		u.Posted, u.Available = usd, usd
		out[0].Points, out[1].Points = append(out[0].Points, c), append(out[1].Points, u)
	}
	return out
}

// exampleWebhooks adds endpoints: one that works, one that fails of late, one that is
// paused.
func exampleWebhooks(d *reportData, r *rand.Rand) {
	for i, url := range []string{"https://hooks.acme.example/keyledger", "https://books.example/in/" + hostile, "https://old.example/hook"} {
		e := endpointData{Endpoint: events.Endpoint{
			ID: fmt.Sprintf("endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1A%d", i), Account: "acme", Environment: events.Live, URL: url, Status: events.Active,
		}}
		for day := range 30 {
			for range r.IntN(400)/(i+1) + 1 {
				dead := i == 1 && day > 20 && r.IntN(3) == 0
				d.Settled = append(d.Settled, settled{d.From + events.Time(day)*milliDay, dead})
				if dead {
					e.Dead++
				} else {
					e.Delivered++
				}
			}
		}
		switch i {
		case 1:
			e.Pending, e.LastError = 212, "connect: "+hostile
		case 2:
			e.Status, e.Reason, e.LastError = events.Paused, "maintenance", "answered 503"
		}
		d.Endpoints = append(d.Endpoints, e)
	}
}
