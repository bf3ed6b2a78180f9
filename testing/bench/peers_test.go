package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
)

var peersTest = &peersConfig{accounts: 5, rounds: 1, measure: time.Second}

func peersOrSkip(t *testing.T) *peerProgram {
	t.Helper()
	programs, missing := findPeers()
	if missing != "" {
		t.Skipf("%s is not installed", missing)
	}
	return programs
}

// TestPostgres: the statement debits once an id, and a balance or an id too many or too
// few is found.
func TestPostgres(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // the server may have another user
		t.Fatal(err)
	}
	p, err := startPostgres(t.Context(), peersTest, peersOrSkip(t), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := p.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := p.reconcile(t.Context()); err != nil || n < 64 || p.row.Rate <= 0 || p.row.P99Micros <= 0 {
		t.Fatalf("%d commands agree, %v; %+v", n, err, p.row)
	}
	for _, tamper := range []string{
		"UPDATE accounts SET balance = balance - 1 WHERE id = 3", "DELETE FROM commands WHERE id = (SELECT min(id) FROM commands)",
	} {
		if _, err := p.query(t.Context(), tamper); err != nil {
			t.Fatal(err)
		}
		if _, err := p.reconcile(t.Context()); err == nil {
			t.Errorf("after %s all agrees", tamper)
		}
	}
	before, err := p.query(t.Context(), "SELECT sum(balance) FROM accounts")
	if err != nil {
		t.Fatal(err)
	}
	again := strings.NewReplacer(":id", "(SELECT max(id) FROM commands)", ":account", "0").Replace(postgresScript[strings.Index(postgresScript, "WITH"):])
	if out, err := p.query(t.Context(), again); err != nil || out != "" {
		t.Errorf("an id that was used debited again: %q, %v", out, err)
	}
	if after, err := p.query(t.Context(), "SELECT sum(balance) FROM accounts"); err != nil || after != before {
		t.Errorf("an id that was used took credits: %s, then %s, %v", before, after, err)
	}
}

// TestRedis: likewise.
func TestRedis(t *testing.T) {
	r, err := startRedis(t.Context(), peersTest, peersOrSkip(t), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := r.reconcile(); err != nil || n < 64 || r.row.Rate <= 0 || r.row.P99Micros <= 0 {
		t.Fatalf("%d commands agree, %v; %+v", n, err, r.row)
	}
	do := func(args ...string) string {
		t.Helper()
		reply, err := r.clients[0].do(args...)
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	debit := func(id, amount string) string { return do("EVALSHA", r.script, "2", id, r.names[3], amount) }
	before := do("GET", r.names[3])
	if left := debit("a", "99999999999999999"); left != "-1" || do("EXISTS", "a") != "0" {
		t.Errorf("a debit of too much left %s", left)
	}
	first := debit("a", "1")
	if second := debit("a", "1"); second != first || first == before {
		t.Errorf("%s, then %s and with the same id %s", before, first, second)
	}
	if _, err := r.reconcile(); err == nil {
		t.Error("a debit that was not counted was not found")
	}
	r.taken[3]++
	if _, err := r.reconcile(); err == nil || !strings.Contains(err.Error(), "keys") {
		t.Errorf("an id that was not counted: %v", err)
	}
	r.done++
	if _, err := r.reconcile(); err != nil {
		t.Error(err)
	}
}

// TestRedisProtocol: what is sent and what is understood.
func TestRedisProtocol(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	sent := make(chan string, 1)
	go func() {
		defer theirs.Close()
		b := make([]byte, len("*2\r\n$3\r\nGET\r\n$1\r\na\r\n"))
		for _, reply := range []string{"$2\r\nx\n\r\n", ":-1\r\n", "+OK\r\n", "$-1\r\n", "-NOSCRIPT no\r\n"} {
			if _, err := io.ReadFull(theirs, b); err != nil {
				return
			}
			if _, err := io.WriteString(theirs, reply); err != nil {
				return
			}
		}
		sent <- string(b)
	}()
	c := &redisClient{conn: ours, in: bufio.NewReader(ours)}
	for _, want := range []string{"x\n", "-1", "OK", "", ""} {
		if got, err := c.do("GET", "a"); got != want || (err != nil) != (want == "") {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	if got := <-sent; got != "*2\r\n$3\r\nGET\r\n$1\r\na\r\n" {
		t.Errorf("sent %q", got)
	}
}

func TestReadPgbench(t *testing.T) {
	const report = "number of clients: 64\nnumber of transactions actually processed: 1234\nnumber of failed transactions: 0 (0.000%)\ntps = 617.5 (without initial connection time)\n"
	if n, rate, err := readPgbench(report); n != 1234 || rate != 617.5 || err != nil {
		t.Errorf("%d, %v, %v", n, rate, err)
	}
	for _, bad := range []string{"", strings.Replace(report, "transactions: 0", "transactions: 3", 1), strings.Replace(report, "tps", "lps", 1)} {
		if _, _, err := readPgbench(bad); err == nil {
			t.Errorf("was taken: %s", bad)
		}
	}
	name := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(name, []byte("0 199 2241 0 1175850568 995598\n1 2 4000 0 1 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := load.NewOutcome(0)
	if err := readLatencies(name, o); err != nil || o.Replies != 2 || o.Latency.Max() < 3_990_000 {
		t.Errorf("%+v, %v", o, err)
	}
}

// TestPeersReport: the ratios are of the medians.
func TestPeersReport(t *testing.T) {
	r := &peersReport{Agree: 12, Reconciled: true}
	for _, rate := range []int64{100, 200, 500, 300} {
		r.Rows = append(r.Rows, &peerRow{Name: "x", Series: seriesOf(t, rate, 2*rate, 3*rate)})
	}
	var text bytes.Buffer
	if err := r.print(&text, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"5.00|", "2.50|", "1.50|", "12 commands agree"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, text.String())
		}
	}
	if r.Ratios["single_to_postgres"] != 3 || r.Ratios["shared_to_redis"] != 2.5 {
		t.Errorf("%v", r.Ratios)
	}
}
