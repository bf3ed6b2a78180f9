package access

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// patience bounds every wait. None waits for it when all is well.
const patience = 10 * time.Second

// rig is a real NATS server with the stream, and a clock that a test moves.
type rig struct {
	t    testing.TB
	conn *nats.Conn
	js   jetstream.JetStream

	mu   sync.Mutex // guards all below
	now  time.Time
	used []Use
}

func newRig(t testing.TB) *rig {
	t.Helper()
	server, err := natsserver.NewServer(&natsserver.Options{DontListen: true, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	server.Start()
	t.Cleanup(func() {
		server.Shutdown()
		server.WaitForShutdown()
	})
	if !server.ReadyForConnections(patience) {
		t.Fatal("nats-server did not start")
	}
	r := &rig{t: t, now: noon.Std()}
	if r.conn, err = nats.Connect("", nats.InProcessServer(server), nats.ReconnectBufSize(-1)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.conn.Close)
	if r.js, err = jetstream.New(r.conn); err != nil {
		t.Fatal(err)
	}
	r.createStream()
	return r
}

// createStream makes the stream as keyledger does.
func (r *rig) createStream() {
	r.t.Helper()
	for _, c := range store.Streams(0, 8<<30) {
		if c.Name != store.StreamAccess {
			continue
		}
		if _, err := r.js.CreateStream(r.t.Context(), c); err != nil {
			r.t.Fatal(err)
		}
	}
}

// open makes a log on the rig. Account acme is there, and "_".
func (r *rig) open() *Log {
	r.t.Helper()
	l, err := New(Config{
		Conn: r.conn, Logger: slog.New(slog.DiscardHandler),
		Clock: func() time.Time { r.mu.Lock(); defer r.mu.Unlock(); return r.now },
		Known: func(account string) (events.Position, *events.Error) {
			if account != "acme" && account != nobody {
				return events.Position{}, events.Errorf(events.NotFound, "there is no account %s", account)
			}
			return events.Position{Sequence: 7, Index: events.NoIndex}, nil
		},
		Caught: func(context.Context) error { return nil },
		Used: func(list []Use) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.used = append(r.used, list...)
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

// at sets the clock.
func (r *rig) at(at events.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = at.Std()
}

// stored reads all that the stream holds.
func (r *rig) stored() []Record {
	r.t.Helper()
	stream, err := r.js.Stream(r.t.Context(), store.StreamAccess)
	if err != nil {
		r.t.Fatal(err)
	}
	var list []Record
	for sequence := uint64(1); sequence <= stream.CachedInfo().State.LastSeq; sequence++ {
		msg, err := stream.GetMsg(r.t.Context(), sequence)
		if err != nil {
			r.t.Fatal(err)
		}
		var record Record
		if err := json.Unmarshal(msg.Data, &record); err != nil {
			r.t.Fatal(err)
		}
		if want := fmt.Sprintf("keyledger.access.%s.%s", record.Account, record.Code); msg.Subject != want {
			r.t.Errorf("a record on %s, want %s", msg.Subject, want)
		}
		list = append(list, record)
	}
	return list
}

// total is how many requests records count.
func total(list []Record) (n int64) {
	for i := range list {
		n += list[i].Count
	}
	return n
}

// list asks access.list.
func (r *rig) list(l *Log, account, body string) (*Listed, *events.Error) {
	r.t.Helper()
	result, at, refused := l.List(r.t.Context(), account, []byte(body))
	if refused != nil {
		return nil, refused
	}
	if at.Sequence != 7 {
		r.t.Errorf("answered at %s", at)
	}
	return result.(*Listed), nil
}

// all follows the cursor to the end; between says what happens between two pages.
func (r *rig) all(l *Log, account, members string, limit int, between func()) (rows []Record) {
	r.t.Helper()
	for cursor := ""; ; between() {
		page, refused := r.list(l, account, fmt.Sprintf(`{%s"limit":%d%s}`, members, limit, cursor))
		if refused != nil {
			r.t.Fatal(refused)
		}
		if len(page.Records) > limit {
			r.t.Fatalf("%d rows, limit %d", len(page.Records), limit)
		}
		rows = append(rows, page.Records...)
		if page.NextCursor == nil {
			return rows
		}
		if len(rows) > 10_000 {
			r.t.Fatal("the list has no end")
		}
		cursor = fmt.Sprintf(`,"cursor":%q`, *page.NextCursor)
	}
}
