package server_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger/server"
	"github.com/keyledger/keyledger/testing/ledgertest"
)

// credentialsFile is what the directory holds, "" for no file.
func credentialsFile(t *testing.T, l *ledgertest.Ledger) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(l.Dir, "credentials.json"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(text)
}

// Bad input is refused with its code and changes nothing; at each limit itself all is well.
func TestCredentialRefusals(t *testing.T) {
	l := opened(t)
	taken := newHolder(t, "taken", server.RoleReader, "acme").created(l)
	before := credentialsFile(t, l)
	for _, row := range []struct {
		name   string
		change map[string]any // a member that is nil is left out
		code   events.Code
		text   string
	}{
		{"no name", map[string]any{"name": nil}, events.InvalidArgument, "name must be"},
		{"name of 65", map[string]any{"name": strings.Repeat("n", 65)}, events.InvalidArgument, "name must be"},
		{"name with a dot", map[string]any{"name": "a.b"}, events.InvalidArgument, "name must be"},
		{"name with a wildcard", map[string]any{"name": "*"}, events.InvalidArgument, "name must be"},
		{"no role", map[string]any{"role": nil}, events.InvalidArgument, "reader, gateway, customer"},
		{"operator", map[string]any{"role": "operator"}, events.InvalidArgument, "reader, gateway, customer"},
		{"customer of all", map[string]any{"role": server.RoleCustomer}, events.InvalidArgument, "account is missing"},
		{"gateway of one", map[string]any{"role": server.RoleGateway, "account": "acme"}, events.InvalidArgument, "leave account out"},
		{"account of all", map[string]any{"account": "*"}, events.InvalidArgument, "account id"},
		{"the ledger's account", map[string]any{"account": "_"}, events.InvalidArgument, "account id"},
		{"unknown account", map[string]any{"account": "nobody"}, events.NotFound, "no account nobody"},
		{"no key", map[string]any{"public_key": nil}, events.InvalidArgument, "begins with U"},
		{"a seed", map[string]any{"public_key": "SU" + strings.Repeat("A", 56)}, events.InvalidArgument, "begins with U"},
		{"a key in use", map[string]any{"public_key": taken.body["public_key"]}, events.AlreadyExists, "key pair of its own"},
		{"the operator's key", map[string]any{"public_key": operatorOf(t, l)}, events.AlreadyExists, "key pair of its own"},
		{"no inbox", map[string]any{"inbox": nil}, events.InvalidArgument, "26 of a-z 2-7"},
		{"everybody's inbox", map[string]any{"inbox": ">"}, events.InvalidArgument, "26 of a-z 2-7"},
		{"an inbox in parts", map[string]any{"inbox": "abcdefghijkl.nopqrstuvwxyz"}, events.InvalidArgument, "26 of a-z 2-7"},
		{"an inbox in use", map[string]any{"inbox": taken.body["inbox"]}, events.AlreadyExists, "has this inbox"},
		{"a name in use", map[string]any{"name": "taken"}, events.AlreadyExists, "revoke it first"},
		{"no time", map[string]any{"expires_at": "soon"}, events.InvalidArgument, "expires_at"},
		{"a seed too many", map[string]any{"seed": "SU"}, events.InvalidArgument, "unknown field"},
	} {
		body := newHolder(t, "new", server.RoleReader, "").body
		maps.Copy(body, row.change)
		maps.DeleteFunc(body, func(_ string, v any) bool { return v == nil })
		_, err := l.Command(t.Context(), "_", "creds.create", body)
		t.Run(row.name, func(t *testing.T) { wantRefusal(t, err, row.code, row.text) })
		if credentialsFile(t, l) != before {
			t.Fatalf("%s changed the file", row.name)
		}
	}
	newHolder(t, strings.Repeat("n", 64), server.RoleReader, "acme").created(l)
	_, err := l.Command(t.Context(), "_", "creds.lend", nil)
	wantRefusal(t, err, events.InvalidArgument, "creds.create, creds.revoke, ledger.accept_clock")
	_, err = l.Command(t.Context(), "_", "creds.revoke", map[string]string{"name": "nobody"})
	wantRefusal(t, err, events.NotFound, `no credential "nobody"`)
	_, err = l.Command(t.Context(), "acme", "creds.revoke", map[string]string{"name": "taken"})
	wantRefusal(t, err, events.InvalidArgument, "unknown command")
}

func operatorOf(t *testing.T, l *ledgertest.Ledger) string {
	t.Helper()
	return l.Conn().Opts.Nkey
}

// The same again is the same, and anything else of that name is refused.
func TestCreatedTwice(t *testing.T) {
	l := opened(t)
	h := newHolder(t, "books", server.RoleReader, "acme").created(l)
	before := credentialsFile(t, l)
	h.created(l)
	if credentialsFile(t, l) != before {
		t.Error("the second time changed the file")
	}
	h.body["account"] = "other"
	_, err := l.Command(t.Context(), "_", "creds.create", h.body)
	wantRefusal(t, err, events.AlreadyExists, "revoke it first")
	h.client(l)
}

// A change that could not be written is none, until the same again succeeds.
func TestCredentialsThatCannotBeWritten(t *testing.T) {
	l := opened(t)
	stays, fresh := newHolder(t, "stays", server.RoleReader, "acme").created(l), newHolder(t, "fresh", server.RoleReader, "acme")
	inTheWay := filepath.Join(l.Dir, "credentials.json.tmp")
	if err := os.MkdirAll(filepath.Join(inTheWay, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	fails := func(verb string, body map[string]any) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond) // the client tries again
		defer cancel()
		_, err := l.Command(ctx, "_", verb, body)
		wantRefusal(t, err, events.OutcomeUnknown, "send it again")
	}
	fails("creds.create", fresh.body)
	fresh.shutOut(l)
	fails("creds.revoke", map[string]any{"name": "stays"})
	stays.client(l)
	if err := os.RemoveAll(inTheWay); err != nil {
		t.Fatal(err)
	}
	fresh.created(l).client(l)
	revoke(t, l, "stays", 1)
}

// full is a file with n credentials.
func full(t *testing.T, n int) string {
	t.Helper()
	file := map[string]any{"version": 1}
	var list []map[string]any
	for i := range n {
		body := newHolder(t, fmt.Sprintf("c%04d", i), server.RoleReader, "").body
		body["created_at"], body["expires_at"] = "2026-01-01T00:00:00Z", "9999-12-31T00:00:00Z"
		list = append(list, body)
	}
	file["credentials"] = list
	text, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// There may be 1,000; a list has them in pages.
func TestMostCredentials(t *testing.T) {
	l := opened(t)
	l.Verify()
	l.Stop()
	if err := os.WriteFile(filepath.Join(l.Dir, "credentials.json"), []byte(full(t, server.CredentialsMax-1)), 0o600); err != nil {
		t.Fatal(err)
	}
	l.Start()
	newHolder(t, "last", server.RoleReader, "acme").created(l)
	_, err := l.Command(t.Context(), "_", "creds.create", newHolder(t, "more", server.RoleReader, "acme").body)
	wantRefusal(t, err, events.LimitExceeded, "1000 credentials")
	var names []string
	for cursor := ""; ; {
		reply, err := l.Query(t.Context(), "_", "creds.list", map[string]any{"limit": server.CredentialsPageMax, "cursor": cursor})
		if err != nil {
			t.Fatal(err)
		}
		var page struct {
			Credentials []struct {
				Name string `json:"name"`
			} `json:"credentials"`
			Next *string `json:"next_cursor"`
		}
		if err := reply.Decode(&page); err != nil || strings.Contains(string(reply.Body), "inbox") {
			t.Fatalf("%v, or it tells an inbox", err)
		}
		for _, c := range page.Credentials {
			names = append(names, c.Name)
		}
		if page.Next == nil {
			break
		}
		cursor = *page.Next
	}
	if len(names) != server.CredentialsMax || !slices.IsSorted(names) {
		t.Errorf("%d names, sorted: %v", len(names), slices.IsSorted(names))
	}
	for _, body := range []map[string]any{{"limit": 0}, {"limit": server.CredentialsPageMax + 1}, {"cursor": "a b"}, {"name": "x"}} {
		_, err := l.Query(t.Context(), "_", "creds.list", body)
		wantRefusal(t, err, events.InvalidArgument, "")
	}
	l.Verify()
	l.Stop()
}

// The file is refused where it is not what keyledger wrote, before NATS lets anybody in.
func TestCredentialsFileIsChecked(t *testing.T) {
	good := full(t, 1)
	for name, row := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"readable by others": {good, 0o640, "chmod 600"},
		"cut off":            {good[:len(good)-2], 0o600, "restore it"},
		"empty":              {"", 0o600, "restore it"},
		"with more in it":    {strings.Replace(good, `"role"`, `"seed":"SU","role"`, 1), 0o600, "unknown field"},
		"of the future":      {strings.Replace(good, `"version":1`, `"version":2,"more":[]`, 1), 0o600, "its version is 2"},
		"of another role":    {strings.Replace(good, "reader", "writer", 1), 0o600, "role must be one of"},
		"too large":          {good + strings.Repeat(" ", 1<<20), 0o600, "too many"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "credentials.json")
		if err := os.WriteFile(path, []byte(row.text), row.mode); err != nil {
			t.Fatal(err)
		}
		s, err := server.Open(server.Config{DataDir: dir, Listen: "127.0.0.1:0", HTTP: "off"})
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %q and the file's name", name, err, row.want)
		}
	}
}
