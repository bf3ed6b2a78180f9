package server

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
)

// Wherever a change stops, the next start finds the credentials before or after it, and the
// next change goes through.
func TestCredentialsStoppedAnywhere(t *testing.T) {
	newOne := func(name string) *Credential {
		_, public := newUser(t)
		return &Credential{Name: name, Role: RoleReader, PublicKey: public, Inbox: "abcdefghijklmnopqrstuvwxy" + name, CreatedAt: 1}
	}
	a, b := newOne("a"), newOne("b")
	made := openTestDir(t, t.TempDir())
	text := func(list ...*Credential) string {
		if err := made.writeCredentials(list); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(made.credentialsPath())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before, after := text(a), text(a, b)
	for name, row := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"before the first":          {nil, nil},
		"the first, not renamed":    {map[string]string{".tmp": before}, nil},
		"with nothing written":      {map[string]string{"": before, ".tmp": ""}, []string{"a"}},
		"with a part written":       {map[string]string{"": before, ".tmp": after[:len(after)/2]}, []string{"a"}},
		"with all of it written":    {map[string]string{"": before, ".tmp": after}, []string{"a"}},
		"renamed":                   {map[string]string{"": after}, []string{"a", "b"}},
		"renamed, the next a part":  {map[string]string{"": after, ".tmp": before[:7]}, []string{"a", "b"}},
		"revoked, not yet renamed":  {map[string]string{"": after, ".tmp": before}, []string{"a", "b"}},
		"revoked and renamed again": {map[string]string{"": before}, []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for suffix, text := range row.files {
				put(t, filepath.Join(dir, fileCredentials+suffix), text, modeSecret)
			}
			d := openTestDir(t, dir)
			list, err := d.credentials("")
			if err != nil {
				t.Fatal(err)
			}
			found := map[string]*Credential{}
			for _, c := range list {
				found[c.Name] = c
			}
			if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, row.want) {
				t.Errorf("found %v, want %v", got, row.want)
			}
			if err := d.writeCredentials([]*Credential{b}); err != nil {
				t.Fatal(err)
			}
			if list, err = d.credentials(""); err != nil || len(list) != 1 || *list[0] != *b {
				t.Errorf("after the next change: %v, %v", list, err)
			}
			if _, err := os.Stat(d.credentialsPath() + ".tmp"); !os.IsNotExist(err) {
				t.Errorf("the temporary file: %v", err)
			}
		})
	}
}

// A file in which two credentials are the same, or one is the operator, is refused with what
// to do: the operator would have been let in with a credential's rights.
func TestCredentialsFileThatIsAmbiguous(t *testing.T) {
	_, operator := newUser(t)
	newOne := func(name, inbox string) *Credential {
		_, public := newUser(t)
		return &Credential{Name: name, Role: RoleReader, PublicKey: public, Inbox: strings.Repeat(inbox, 26), CreatedAt: 1}
	}
	a, b := newOne("a", "a"), newOne("b", "b")
	same := func(change func(c *Credential)) *Credential {
		c := *b
		change(&c)
		return &c
	}
	for want, list := range map[string][]*Credential{
		"":                                     {a, b},
		`"a" stands in it twice`:               {a, same(func(c *Credential) { c.Name = "a" })},
		`"b" has the operator's public key`:    {a, same(func(c *Credential) { c.PublicKey = operator })},
		`"b" has the public key of "a"`:        {a, same(func(c *Credential) { c.PublicKey = a.PublicKey })},
		`"b" has the inbox of "a"; take it ou`: {a, same(func(c *Credential) { c.Inbox = a.Inbox })},
	} {
		d := openTestDir(t, t.TempDir())
		if err := d.writeCredentials(list); err != nil {
			t.Fatal(err)
		}
		_, err := d.credentials(operator)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// slowConsumers holds the deletion of a consumer up.
type slowConsumers struct {
	jetstream.JetStream
	asked, goOn chan bool
}

func (s *slowConsumers) DeleteConsumer(ctx context.Context, stream, consumer string) error {
	if consumer == consumerOf("slow") {
		s.asked <- true
		<-s.goOn
	}
	return s.JetStream.DeleteConsumer(ctx, stream, consumer)
}

// While the store deletes one's consumer, other credentials are listed, made and revoked; of
// that one alone nothing is changed.
func TestCredentialsWhileAConsumerGoes(t *testing.T) {
	s, _, stop := serveConfig(t, Config{DataDir: t.TempDir()})
	defer stop()
	made := func(name string) *events.Error {
		_, public := newUser(t)
		body, err := events.Encode(map[string]string{"name": name, "role": RoleReader, "public_key": public, "inbox": strings.Repeat(name[:1], 26)})
		if err != nil {
			t.Fatal(err)
		}
		_, _, refused := s.creds.create(t.Context(), "_", body)
		return refused
	}
	if err := made("slow"); err != nil {
		t.Fatal(err)
	}
	slow := &slowConsumers{JetStream: s.creds.js, asked: make(chan bool), goOn: make(chan bool)}
	s.creds.js = slow
	revoked := make(chan *events.Error, 1)
	go func() {
		_, _, err := s.creds.revoke(t.Context(), "_", []byte(`{"name":"slow"}`))
		revoked <- err
	}()
	<-slow.asked
	if _, _, err := s.creds.page(t.Context(), "_", []byte(`{}`)); err != nil {
		t.Error(err)
	}
	if err := made("other"); err != nil {
		t.Error(err)
	}
	if _, _, err := s.creds.revoke(t.Context(), "_", []byte(`{"name":"other"}`)); err != nil {
		t.Error(err)
	}
	if err := made("slow"); err == nil || err.Code != events.Unavailable {
		t.Errorf("made again at once: %v", err)
	}
	if _, _, err := s.creds.revoke(t.Context(), "_", []byte(`{"name":"slow"}`)); err == nil || err.Code != events.Unavailable {
		t.Errorf("revoked twice at once: %v", err)
	}
	close(slow.goOn)
	if err := <-revoked; err != nil {
		t.Error(err)
	}
	// Of two that are made at once, only one can have a public key.
	go func() {
		err := made("slow")
		revoked <- err
	}()
	<-slow.asked
	s.creds.mu.Lock()
	first := *s.creds.list["slow"]
	s.creds.mu.Unlock()
	body, err := events.Encode(map[string]string{"name": "thief", "role": RoleReader, "public_key": first.PublicKey, "inbox": strings.Repeat("t", 26)})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.creds.create(t.Context(), "_", body); err == nil || err.Code != events.AlreadyExists {
		t.Errorf("the public key of one that is being made: %v", err)
	}
	if err := <-revoked; err != nil {
		t.Error(err)
	}
}
