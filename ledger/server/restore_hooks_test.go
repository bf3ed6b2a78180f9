package server_test

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/server"
	"github.com/keyledger/keyledger/testing/ledgertest"
	"github.com/keyledger/keyledger/testing/receiver"
)

// Webhooks of a restored ledger go on from what was delivered when it was exported, signed
// with the secret that was sealed.
func TestRestoredWebhooksGoOn(t *testing.T) {
	hooks := startReceiver(t)
	l := ledgertest.Start(t)
	subscriber(t, l, hooks, "", nil)
	grantAndWait := func(n int) {
		t.Helper()
		if _, err := l.Grant(t.Context(), "acme", ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: 10}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := hooks.Wait(ctx, func(receiver.Totals) bool { return len(hooks.Events("/acme")) == n }); err != nil {
			t.Fatal(err)
		}
	}
	grantAndWait(1)
	grantAndWait(2)
	l.Stop() // which saves how webhooks stand
	var file bytes.Buffer
	if _, err := server.ExportDir(t.Context(), server.Config{DataDir: l.Dir}, &file, server.ExportConfig{Compress: true}); err != nil {
		t.Fatal(err)
	}
	sealKey := filepath.Join(l.Dir, "seal.key")
	l.Dir = t.TempDir()
	if _, err := server.Restore(t.Context(), &file, server.RestoreConfig{DataDir: l.Dir, SealKeyFile: sealKey}); err != nil {
		t.Fatal(err)
	}
	l.Start()
	grantAndWait(3)
	if attempts := hooks.Attempts("/acme"); len(attempts) != 3 {
		t.Errorf("%d attempts for 3 events: something was sent again", len(attempts))
	}
	if js, err := jetstream.New(l.Conn()); err != nil {
		t.Fatal(err)
	} else if _, err := server.Export(t.Context(), js, new(bytes.Buffer), server.ExportConfig{}); err != nil {
		t.Errorf("a restored ledger is exported again: %v", err)
	}
	l.Verify()
	l.Stop()
}
