package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"time"
)

// ownClients are the demo's own clients and how often each comes: some exactly as often
// as their credits last, some once more, some far more.
var ownClients = []struct {
	addr   string
	visits int
}{
	{"203.0.113.7", 120}, {"198.51.100.23", 45}, {"2001:db8::5", 33}, {"192.0.2.44", 21}, {"203.0.113.9", 20},
	{"192.0.2.101", 20}, {"2001:db8:1::2", 19}, {"198.51.100.8", 12}, {"203.0.113.250", 7}, {"192.0.2.3", 2}, {"198.51.100.99", 1},
}

// ownRequests are what they ask for.
var ownRequests = []string{
	"GET /payments/charges?limit=10", "POST /payments/charges", "GET /search?q=ledger", "HEAD /files/report.pdf",
	"GET /", "PUT /profiles/42", "GET /exchange-rates/usd", "DELETE /files/old.csv",
}

// ownTraffic is an access log for those who have none at hand: always the same one.
func ownTraffic() []byte {
	var turns []string
	for _, c := range ownClients {
		for range c.visits {
			turns = append(turns, c.addr)
		}
	}
	random := rand.New(rand.NewPCG(2026, 7))
	random.Shuffle(len(turns), func(i, j int) { turns[i], turns[j] = turns[j], turns[i] })
	at := time.Date(2026, 1, 31, 23, 58, 0, 0, time.UTC)
	var log bytes.Buffer
	for _, addr := range turns {
		at = at.Add(time.Duration(random.IntN(3000)) * time.Millisecond)
		fmt.Fprintf(&log, "%s - - [%s] \"%s HTTP/1.1\" 200 %d \"-\" \"keyledger-demo\"\n",
			addr, at.Format("02/Jan/2006:15:04:05 -0700"), ownRequests[random.IntN(len(ownRequests))], random.IntN(9000))
	}
	return log.Bytes()
}
