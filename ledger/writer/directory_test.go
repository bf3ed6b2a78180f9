package writer

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// pair signs for all signing keys of these tests.
var pair = ed25519.NewKeyFromSeed(slices.Repeat([]byte{7}, ed25519.SeedSize))

// imports is key.import of a secret in test.
func imports(secret string) *ledger.ImportKey {
	sum := sha256.Sum256([]byte(secret))
	return &ledger.ImportKey{
		CreateKey: ledger.CreateKey{Environment: events.Test, Name: "i", KeyID: ulid.Make()}, SHA256: hex.EncodeToString(sum[:]),
	}
}

// signingKey is key.create of a key that signs with pair.
func signingKey() *ledger.CreateKey {
	public := base64.StdEncoding.EncodeToString(pair.Public().(ed25519.PublicKey))
	return &ledger.CreateKey{Environment: events.Test, Name: "s", PublicKey: public, KeyID: ulid.Make()}
}

// asks is a request with a secret.
func (f *fixture) asks(secret string) *Request {
	return f.asksWith(&ledger.Authorize{Secret: secret})
}

// signs is a request that pair signs for a key now.
func (f *fixture) signs(key ulid.ULID, message string) *Request {
	a := &ledger.Authorize{Key: "key_" + key.String(), Message: message}
	a.Sign(pair, events.At(f.clock.now()))
	return f.asksWith(a)
}

func (f *fixture) asksWith(a *ledger.Authorize) *Request {
	f.t.Helper()
	if err := a.Validate(); err != nil {
		f.t.Fatalf("%v", err)
	}
	return &Request{Authorize: a, ID: f.clock.id(), Receipt: true, Signed: a.Signed()}
}

func (f *fixture) revoke(account, key string) {
	f.t.Helper()
	cmd := specOf("key.revoke").New()
	if err := events.DecodeStrict([]byte(`{"key":"`+key+`"}`), cmd); err != nil {
		f.t.Fatalf("%v", err)
	}
	f.must(account, "key.revoke", cmd)
}

// codeOf sends a request and returns the code of its answer.
func (f *fixture) codeOf(req *Request) events.Code {
	f.t.Helper()
	r := <-f.send(req)
	if r.Err != nil {
		return r.Err.Code
	}
	return r.Answer.Code
}

// TestDirectory: imported and signing keys are known from their first answer on, when
// they are revoked, when their append was lost, and after a start from the log and from a
// snapshot.
func TestDirectory(t *testing.T) {
	log, c, snaps := new(store.Memory), newClock(), new(store.MemorySnapshots)
	appends := 0
	log.Fault = func([]byte, uint64) store.Fault {
		if appends++; appends == 4 || appends == 7 { // of the import and of the signing key, as it happens
			return store.Fault{Lose: true, Err: errTimeout}
		}
		return store.Fault{}
	}
	f := snapping(t, log, c, snaps)
	f.funded("acme", 1000)
	imported, signer := imports("sk_1"), signingKey()
	f.must("acme", "key.import", imported)
	f.must("acme", "key.create", signer)
	revoked := f.must("acme", "key.import", imports("sk_2")).Data.(*events.Key)
	f.revoke("acme", revoked.ID)
	once := f.signs(signer.KeyID, "once")
	first := *once.Authorize
	check := func(what string, f *fixture, onceMore events.Code) {
		t.Helper()
		own := int(ledger.Slot("acme")) % intakeLanes
		for name, row := range map[string]struct {
			req  *Request
			lane int
			want events.Code
		}{
			"an imported secret":        {f.asks("sk_1"), own, events.OK},
			"one of a revoked key":      {f.asks("sk_2"), own, events.KeyRevoked},
			"a signature":               {f.signs(signer.KeyID, what), own, events.OK},
			"one that paid before":      {f.asksWith(&first), own, onceMore},
			"one for another key":       {f.signs(imported.KeyID, what), intakeLanes, events.KeyNotFound},
			"one for no key":            {f.signs(ulid.ULID{1: 9}, what), intakeLanes, events.KeyNotFound},
			"a secret nobody was given": {f.asks("sk_3"), intakeLanes, events.KeyNotFound},
		} {
			f.w.directory.place(row.req.Authorize)
			if lane := f.w.intake.laneOf(row.req); lane != row.lane {
				t.Errorf("%s: %s has lane %d, want %d", what, name, lane, row.lane)
			}
			if got := f.codeOf(row.req); got != row.want {
				t.Errorf("%s: %s: %s, want %s", what, name, got, row.want)
			}
		}
	}
	check("at first", f, events.OK)
	check("again", f, events.IDReused)
	f.until("a snapshot", func() bool { return f.w.Stats().Snapshot != nil })
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
	if appends < 8 {
		t.Fatalf("%d appends: none of the keys was lost", appends)
	}
	checkSnapshots(t, log, c, snaps)
	log.Fault = nil
	alone := run(t, log, c)
	<-alone.w.Ready()
	check("from the log", alone, events.IDReused)
	if err := alone.end(); err != nil {
		t.Fatal(err)
	}
	snapshot := run(t, log, c, func(cfg *Config) { cfg.Snapshots = snaps })
	<-snapshot.w.Ready()
	check("from a snapshot", snapshot, events.IDReused)
	if err := snapshot.end(); err != nil {
		t.Fatal(err)
	}
}

// TestWrongSignatures: nothing but the key's own signature makes a request its
// own.
func TestWrongSignatures(t *testing.T) {
	f := run(t, new(store.Memory), newClock())
	f.funded("acme", 1000)
	signer := signingKey()
	f.must("acme", "key.create", signer)
	other := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	a := &ledger.Authorize{Key: "key_" + signer.KeyID.String(), Message: "m"}
	a.Sign(other, events.At(start))
	if got := f.codeOf(f.asksWith(a)); got != events.KeyNotFound {
		t.Errorf("another key's signature: %s", got)
	}
	f.clock.advance(5*time.Minute + time.Millisecond)
	a.Sign(pair, events.At(start))
	if got := f.codeOf(f.asksWith(a)); got != events.CommandExpired {
		t.Errorf("a signature of 5 minutes and a millisecond ago: %s", got)
	}
	req := f.signs(signer.KeyID, "m")
	req.Signed = false
	if got := f.codeOf(req); got != events.KeyNotFound {
		t.Errorf("a signature that nobody verified: %s", got)
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

// TestJunkHoldsUpNoImportedKey: whoever tries out secrets and key ids fills a lane of his
// own; an imported and a signing key come in, and are in the next group.
func TestJunkHoldsUpNoImportedKey(t *testing.T) {
	w := New(Config{Log: new(store.Memory), MaxWaiting: 2000})
	f := &fixture{t: t, w: w, clock: newClock()}
	signer := signingKey()
	for i, cmd := range []ledger.Command{imports("sk_1"), signer} {
		if err := cmd.Validate(); err != nil {
			t.Fatal(err)
		}
		k := &events.Key{Account: "acme", ID: "key_" + signer.KeyID.String(), PublicKey: pair.Public().(ed25519.PublicKey)}
		if i == 0 {
			k = &events.Key{Account: "acme", Hash: sha256.Sum256([]byte("sk_1"))}
		}
		w.directory.note(&events.Event{Type: []string{"key.imported", "key.created"}[i], Data: k})
	}
	refused := 0
	done := func(*Reply) { refused++ }
	for _, junk := range []func() *Request{
		func() *Request { return f.asks("sk_unknown") },
		func() *Request { return f.signs(ulid.ULID{1: 9}, "m") },
	} {
		for before := refused; refused == before; {
			req := junk()
			req.Done = done
			w.Submit(req)
		}
	}
	refused = 0
	secret, signed := f.asks("sk_1"), f.signs(signer.KeyID, "m")
	for _, req := range []*Request{secret, signed} {
		req.Done = done
		w.Submit(req)
	}
	if refused > 0 {
		t.Fatal("a known key was refused")
	}
	if !slices.Contains(w.intake.take(10, nil), secret) || !slices.Contains(w.unverified.take(10, nil), signed) {
		t.Error("a known key waits behind the junk")
	}
}

// TestSignedKeepOrder: what is behind a signed request in its lane is decided behind it.
func TestSignedKeepOrder(t *testing.T) {
	f := run(t, new(store.Memory), newClock())
	f.funded("acme", 1)
	signer := signingKey()
	f.must("acme", "key.create", signer)
	f.must("acme", "key.import", imports("sk_1"))
	price := int64(1)
	var replies []chan *Reply
	for i := range 100 {
		req := f.signs(signer.KeyID, "m")
		if i > 0 {
			req = f.asks("sk_1")
			req.Signed = true
		}
		req.Authorize.Cost, req.Lane = &price, 5
		replies = append(replies, f.send(req))
	}
	for i, ch := range replies {
		if r := <-ch; r.Err != nil || r.Answer.Allowed != (i == 0) {
			t.Errorf("request %d: %+v", i, r)
		}
	}
	if err := f.end(); err != nil {
		t.Fatal(err)
	}
}

// What waits for its signature is answered when the writer stops.
func TestUnverifiedAreAnsweredAtTheEnd(t *testing.T) {
	f := run(t, new(store.Memory), newClock())
	<-f.w.Ready()
	var replies []chan *Reply
	f.stop()
	for range 1000 {
		replies = append(replies, f.send(f.signs(ulid.ULID{1: 9}, "m")))
	}
	if err := <-f.done; err != nil {
		t.Fatal(err)
	}
	for _, ch := range replies {
		<-ch
	}
	if got := f.codeOf(f.signs(ulid.ULID{1: 9}, "m")); got != events.Unavailable {
		t.Errorf("after the end: %s", got)
	}
}
