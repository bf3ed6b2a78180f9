package client_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/ledger/client"
)

// The vector of the documents: others find the same inbox.
const (
	vectorSeed  = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
	vectorInbox = "_INBOX.6wuof7x4iu7qithouwaf5h7c5f"
)

func TestInboxOfASeed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seed.nk")
	if err := os.WriteFile(path, []byte(vectorSeed+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		list, err := client.Credentials(path)
		if err != nil {
			t.Fatal(err)
		}
		var opts nats.Options
		for _, set := range list {
			if err := set(&opts); err != nil {
				t.Fatal(err)
			}
		}
		if opts.InboxPrefix != vectorInbox || opts.Nkey == "" {
			t.Errorf("inbox prefix %s of %s, want %s", opts.InboxPrefix, opts.Nkey, vectorInbox)
		}
	}
	for name, text := range map[string]string{"empty": "", "public": "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4", "cut": vectorSeed[:50]} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Credentials(path); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := client.Credentials(path + ".none"); err == nil {
		t.Error("no file, no error")
	}
}
