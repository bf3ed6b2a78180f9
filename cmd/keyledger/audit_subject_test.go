package main

import (
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/testing/ledgertest"
)

// replayPatience bounds waits for a message.
const replayPatience = 20 * time.Second

// What is replayed on a subject is what the feed holds, header by header and byte by byte.
func TestReplayToASubjectIsTheFeed(t *testing.T) {
	l, ctx := ledgertest.Start(t), t.Context()
	if _, err := l.OpenAccount(ctx, "acme", ledger.OpenAccount{Name: "Ümläut GmbH"}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := l.Grant(ctx, "acme", ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 5}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.CreateKey(ctx, "acme", ledger.CreateKey{Environment: events.Test, Name: "backend"}); err != nil {
		t.Fatal(err)
	}
	other := startNATS(t, natsserver.Options{})
	elsewhere, err := nats.Connect(other.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	for name, c := range map[string]struct {
		conn  *nats.Conn
		flags []string
	}{
		"here":      {l.Connect(), []string{"--to-subject", "replay.one.>"}},
		"elsewhere": {elsewhere, []string{"--to-subject", "replay.one.>", "--to-server", other.ClientURL(), "--speed", "1000000x"}},
	} {
		sub, err := c.conn.SubscribeSync("replay.one.>")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.conn.Flush(); err != nil {
			t.Fatal(err)
		}
		args := append([]string{"audit", "replay", "--server", l.Server.URL(), "--creds", l.Server.OperatorKeyPath(), "--json"}, c.flags...)
		code, out, errOut := invoke(args...)
		if code != 0 || out != `{"subject":"replay.one.>","events":5,"position":"0:6.0"}`+"\n" {
			t.Fatalf("%s: exit code %d, %s, %s", name, code, out, errOut)
		}
		for sequence := uint64(1); sequence <= 5; sequence++ {
			want := feedMessageAt(t, l, sequence)
			got, err := sub.NextMsg(replayPatience)
			if err != nil {
				t.Fatalf("%s, event %d: %v", name, sequence, err)
			}
			if !maps.EqualFunc(map[string][]string(got.Header), map[string][]string(want.Header), func(a, b []string) bool { return a[0] == b[0] }) || string(got.Data) != string(want.Data) {
				t.Errorf("%s, event %d: got %v %s, the feed has %v %s", name, sequence, got.Header, got.Data, want.Header, want.Data)
			}
			if tail := strings.TrimPrefix(want.Subject, store.SubjectFeed(0)); got.Subject != "replay.one."+tail {
				t.Errorf("%s, event %d: on %s, the feed on %s", name, sequence, got.Subject, want.Subject)
			}
		}
	}
	// A filter, and one subject for all.
	sub, err := elsewhere.SubscribeSync("grants")
	if err != nil || elsewhere.Flush() != nil {
		t.Fatal(err)
	}
	code, out, errOut := invoke("audit", "replay", "--server", l.Server.URL(), "--creds", l.Server.OperatorKeyPath(),
		"--environment", "test", "--type", "credit.*", "--to-subject", "grants", "--to-server", other.ClientURL())
	if err := elsewhere.Flush(); err != nil { // what was published has come before its answer
		t.Fatal(err)
	}
	if n, _, err := sub.Pending(); code != 0 || err != nil || n != 3 || !strings.Contains(out, "events   3\n") {
		t.Errorf("exit code %d, %d came, %s, %s", code, n, out, errOut)
	}
}

// feedMessageAt is a message of the feed without the headers of NATS.
func feedMessageAt(t *testing.T, l *ledgertest.Ledger, sequence uint64) *jetstream.RawStreamMsg {
	t.Helper()
	js, err := jetstream.New(l.Conn())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), store.StreamFeed(0))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(replayPatience); ; {
		msg, err := stream.GetMsg(t.Context(), sequence)
		if err == nil {
			maps.DeleteFunc(msg.Header, func(name string, _ []string) bool { return strings.HasPrefix(name, "Nats-") })
			return msg
		}
		if time.Now().After(deadline) {
			t.Fatalf("feed %d: %v", sequence, err)
		}
	}
}

// Subjects that are none or somebody's own are refused, and speeds that make no sense.
func TestReplayToRefuses(t *testing.T) {
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{[]string{"--to-subject", "keyledger.events.0.acme"}, "is keyledger's or NATS' own"},
		{[]string{"--to-subject", "keyledger"}, "is keyledger's or NATS' own"},
		{[]string{"--to-subject", "keyledger.>", "--to-server", "nats://127.0.0.1:1"}, "is keyledger's or NATS' own"},
		{[]string{"--to-subject", "$JS.API.INFO"}, "is keyledger's or NATS' own"},
		{[]string{"--to-subject", "$SYS.x", "--to-context", "x"}, "is keyledger's or NATS' own"},
		{[]string{"--to-subject", "_INBOX.x"}, "is keyledger's or NATS' own"},
		{[]string{"--to-subject", "mine"}, "on the ledger's NATS server it must begin with replay."},
		{[]string{"--to-subject", "replay"}, "on the ledger's NATS server it must begin with replay."},
		{[]string{"--to-subject", "replay.*"}, "is no subject to publish on"},
		{[]string{"--to-subject", "replay..x"}, "is no subject to publish on"},
		{[]string{"--to-subject", "replay.a b"}, "is no subject to publish on"},
		{[]string{"--to-subject", ">"}, "is no subject to publish on"},
		{[]string{"--to-subject", "replay.a.>.b"}, "is no subject to publish on"},
		{[]string{"--to-subject", "replay.a", "--raw"}, "leave out --raw"},
		{[]string{"--to-subject", "x", "--to-server", "nats://x", "--to-context", "x"}, "give one of them"},
		{[]string{"--to-subject", "replay.a", "--speed", "0"}, "--speed \"0\" must be"},
		{[]string{"--to-subject", "replay.a", "--speed", "fast"}, "--speed \"fast\" must be"},
		{[]string{"--to-subject", "replay.a", "--speed", "100001"}, "--speed \"100001\" must be"},
		{[]string{"--to-subject", "replay.a", "--speed", "1000001x"}, "--speed \"1000001x\" must be"},
		{[]string{"--to-subject", "replay.a", "--speed", "0.0009x"}, "--speed \"0.0009x\" must be"},
		{[]string{"--to-subject", "replay.a", "--speed", "NaN"}, "--speed \"NaN\" must be"},
		{[]string{"--speed", "5"}, "--speed needs --to-subject"},
		{[]string{"--to-server", "nats://x"}, "--to-server needs --to-subject"},
		{[]string{"--environment", "prod"}, "must be test or live"},
	} {
		code, out, errOut := invoke(append([]string{"audit", "replay"}, c.flags...)...)
		if code != exitUsage || out != "" || !strings.Contains(errOut, c.want) {
			t.Errorf("%v: exit code %d, %s", c.flags, code, errOut)
		}
	}
	for _, good := range []string{"0.001", "100000", "0.001x", "1000000x", "2x"} {
		if _, err := parsePace(good); err != nil {
			t.Errorf("--speed %s: %v", good, err)
		}
	}
}

// Events are due at a rate, or at their times divided by a factor, and never faster than
// the most.
func TestReplayPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := func(speed string, times ...events.Time) time.Duration {
			p, err := parsePace(speed)
			if err != nil {
				t.Fatal(err)
			}
			limiter, begun := rate.NewLimiter(p.limit, 1), time.Now()
			for _, of := range times {
				if err := p.wait(t.Context(), limiter, of); err != nil {
					t.Fatal(err)
				}
			}
			return time.Since(begun).Round(time.Millisecond)
		}
		for _, c := range []struct {
			speed string
			times []events.Time
			want  time.Duration
		}{
			{"2", []events.Time{at(0), at(0), at(100)}, time.Second},
			{"1x", []events.Time{at(0), at(3), at(7)}, 7 * time.Second},
			{"2x", []events.Time{at(0), at(3), at(7)}, 3500 * time.Millisecond},
			{"0.5x", []events.Time{at(0), at(1)}, 2 * time.Second},
			{"1000000x", make([]events.Time, 100_001), time.Second},
		} {
			if got := took(c.speed, c.times...); got != c.want {
				t.Errorf("--speed %s took %s, want %s", c.speed, got, c.want)
			}
		}
	})
}
