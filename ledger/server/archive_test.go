package server_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/ledger/server"
	"github.com/keyledger/keyledger/testing/ledgertest"
)

// TestStatementsReadTheirWrites: the statement that waits for a command's position has its
// movement, whatever reads the log elsewhere; so has the one after a restart, with the
// archive's files and without.
func TestStatementsReadTheirWrites(t *testing.T) {
	l := ledgertest.Start(t)
	if _, err := l.OpenAccount(t.Context(), "acme", ledger.OpenAccount{}); err != nil {
		t.Fatal(err)
	}
	var posted int64
	since := "0:1"
	for i := range int64(50) {
		reply, err := l.Command(t.Context(), "acme", "credit.grant", ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: i + 1})
		if err != nil {
			t.Fatal(err)
		}
		posted += i + 1
		s := statementOf(t, l, since, client.WithMinPosition(reply.Position))
		if len(s.Movements) != 1 || s.Movements[0].Position != reply.Position || s.Movements[0].Amount != i+1 || s.Closing.Posted != posted {
			t.Fatalf("grant %d at %s: %+v", i, reply.Position, s)
		}
		since = s.Movements[0].Position
	}
	for _, without := range []bool{false, true} {
		l.Stop()
		if without {
			if err := os.RemoveAll(filepath.Join(l.Dir, "archive")); err != nil {
				t.Fatal(err)
			}
		}
		l.Start()
		if s := statementOf(t, l, "0:1", client.Strict()); len(s.Movements) != 50 || s.Closing.Posted != posted || s.Opening.Posted != 0 {
			t.Errorf("after a restart: %d movements, %+v", len(s.Movements), s)
		}
	}
	reply, err := l.Query(t.Context(), "acme", "balance.get", map[string]string{"environment": events.Test, "at_position": since})
	var then struct {
		Balance events.Balance `json:"balance"`
	}
	if err == nil {
		err = reply.Decode(&then)
	}
	if err != nil || then.Balance.Posted != posted {
		t.Errorf("the balance at %s: %s, %v", since, reply.Body, err)
	}
	archived(t, l)
	l.Verify()
	l.Stop()
}

type stated struct {
	Movements []struct {
		Position string `json:"position"`
		Amount   int64  `json:"amount"`
	} `json:"movements"`
	Opening events.Balance `json:"opening"`
	Closing events.Balance `json:"closing"`
}

func statementOf(t *testing.T, l *ledgertest.Ledger, since string, opts ...client.Option) *stated {
	t.Helper()
	body := map[string]any{"environment": events.Test, "from_position": since, "limit": 500}
	reply, err := l.Query(t.Context(), "acme", "statement.list", body, opts...)
	out := new(stated)
	if err == nil {
		err = reply.Decode(out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// archived sees the archive in the status, at the end of the log.
func archived(t *testing.T, l *ledgertest.Ledger) {
	t.Helper()
	reply, err := l.Query(context.Background(), "_", "ledger.status", nil, client.Strict())
	var status server.Status
	if err == nil {
		err = reply.Decode(&status)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range status.Projections {
		if p.Name == "archive" && p.LagCommits == 0 && p.Failure == "" && p.Position == status.Position {
			return
		}
	}
	t.Errorf("the archive is not at the end: %+v", status.Projections)
}
