package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/service"
)

// Roles of credentials; identities.go says what they may do.
const (
	RoleReader   = "reader"   // queries, of one account or of all
	RoleGateway  = "gateway"  // authorize
	RoleCustomer = "customer" // one account's keys and endpoints, queries, and feed
)

var roleNames = []string{RoleReader, RoleGateway, RoleCustomer}

const (
	// CredentialsMax is how many credentials there may be, expired ones included.
	CredentialsMax = 1000
	// CredentialsPageMax is how many a list tells at most.
	CredentialsPageMax = 500
)

const (
	// credentialsBytesMax bounds the file: CredentialsMax of the largest take 450 KB.
	credentialsBytesMax = 1 << 20
	// credentialsVersion is the version of the file's form.
	credentialsVersion = 1

	credentialsPageDefault = 50
)

// Credential is a client identity with less than the operator's rights.
type Credential struct {
	Name      string      `json:"name"` // 1 to 64 of A-Z a-z 0-9 _ -, not _ alone
	Role      string      `json:"role"`
	Account   string      `json:"account,omitempty"` // "": a reader of all, or a gateway
	PublicKey string      `json:"public_key"`        // user nkey; the seed is its owner's alone
	CreatedAt events.Time `json:"created_at"`
	ExpiresAt events.Time `json:"expires_at"` // null: never

	// Inbox is the token behind _INBOX. below which its answers come. Nobody else may know
	// it, for permissions do not bind reply subjects: whoever knows it can have answers
	// sent there that its owner did not ask for. It is derived from the seed
	// (store.InboxToken) and stands in no answer.
	Inbox string `json:"inbox,omitempty"`
}

// credentials keeps who may connect besides the operator, in a file of the data directory
// and not in the log: they say who reaches this NATS server, not what became of an account.
// A restored or replayed log must not let anybody in that was shut out since, and the
// operator's own key is a file there, too.
//
// The file is written before the gate changes. If we stop between the two, the next start
// does what the file says, and nobody had an answer.
type credentials struct {
	dir    *dataDir
	gate   *gate
	actors *actors
	now    func() time.Time
	js     jetstream.JetStream // of the store: for consumers of those who are gone
	log    *slog.Logger
	// known says whether there is an account, all that was acknowledged included.
	known func(ctx context.Context, account string) *events.Error
	end   func() events.Position

	mu     sync.Mutex // guards all below; held for a whole change, but for what forget waits for
	list   map[string]*Credential
	busy   map[string]bool // names of which a consumer is being deleted; nothing else happens to them
	closed bool
}

// openCredentials makes the keeper of the credentials that the directory has.
func (s *Server) openCredentials(list []*Credential) error {
	operator, err := s.dir.operatorInbox()
	if err != nil {
		return err
	}
	s.creds = &credentials{
		actors: newActors(operator, list),
		dir:    s.dir, gate: s.nats.ids.gate, now: time.Now, js: s.js, log: s.cfg.Logger, list: make(map[string]*Credential), busy: make(map[string]bool),
		end: func() events.Position { end := s.tail.End(); return end.Position() },
		known: func(ctx context.Context, account string) *events.Error {
			if err := s.waitFor(ctx, s.tail.End().Sequence); err != nil {
				return events.Errorf(events.Unavailable, "the views did not reach the log's end in time; try again")
			}
			_, err := s.parts.views.Known(account)
			return err
		},
	}
	for _, c := range list {
		s.creds.list[c.Name] = c
	}
	return nil
}

// commands are the commands of the ledger itself that change credentials.
func (k *credentials) commands() map[string]service.QueryFunc {
	return map[string]service.QueryFunc{"creds.create": k.create, "creds.revoke": k.revoke}
}

// consumerOf is the name of the one consumer of the feed that a customer may have.
func consumerOf(name string) string { return "creds_" + name }

// create handles keyledger.cmd._.creds.create. The same again succeeds and changes nothing.
func (k *credentials) create(ctx context.Context, _ string, body []byte) (any, events.Position, *events.Error) {
	var in struct {
		Name      string      `json:"name"`
		Role      string      `json:"role"`
		Account   string      `json:"account"`
		PublicKey string      `json:"public_key"`
		Inbox     string      `json:"inbox"`
		ExpiresAt events.Time `json:"expires_at"`
	}
	if err := events.DecodeStrict(body, &in); err != nil {
		return nil, events.Position{}, err
	}
	c := Credential{Name: in.Name, Role: in.Role, Account: in.Account, PublicKey: in.PublicKey, Inbox: in.Inbox, ExpiresAt: in.ExpiresAt}
	if err := c.check(); err != nil {
		return nil, events.Position{}, err
	}
	if c.Account != "" {
		if err := k.known(ctx, c.Account); err != nil {
			return nil, events.Position{}, err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.idle(c.Name); err != nil {
		return nil, events.Position{}, err
	}
	c.CreatedAt = events.At(k.now())
	if old := k.list[c.Name]; old != nil {
		if c.CreatedAt = old.CreatedAt; c == *old {
			return k.shown(old)
		}
		return nil, events.Position{}, events.Errorf(events.AlreadyExists, "there is a credential %s already; revoke it first, or take another name", c.Name)
	}
	if err := k.checkNew(&c); err != nil {
		return nil, events.Position{}, err
	}
	next := maps.Clone(k.list)
	next[c.Name] = &c
	if err := k.keep(next); err != nil {
		return nil, events.Position{}, err
	}
	// If we stop here: it may connect after the next start.
	k.forget(ctx, c.Name) // what a former one of this name may have left
	k.actors.add(&c)
	k.gate.admit(&c)
	return k.shown(&c)
}

// checkNew checks a new credential against those there are.
func (k *credentials) checkNew(c *Credential) *events.Error {
	if len(k.list) >= CredentialsMax {
		return events.Errorf(events.LimitExceeded, "there are %d credentials, the most there may be; revoke what is not needed", len(k.list)).
			With("limit", CredentialsMax)
	}
	if c.ExpiresAt != 0 && c.ExpiresAt <= c.CreatedAt {
		return events.Errorf(events.InvalidArgument, "expires_at %s is over already", c.ExpiresAt)
	}
	for _, other := range k.list {
		if other.Inbox == c.Inbox {
			return events.Errorf(events.AlreadyExists, "credential %s has this inbox; make a key pair of its own for each", other.Name)
		}
		if other.PublicKey == c.PublicKey {
			return errKeyInUse
		}
	}
	if k.gate.known(c.PublicKey) {
		return errKeyInUse
	}
	return nil
}

var errKeyInUse = events.Errorf(events.AlreadyExists, "this public key is in use already; make a key pair of its own for each credential")

// idle says whether a change of a name may begin. The caller holds mu.
func (k *credentials) idle(name string) *events.Error {
	if k.busy[name] {
		return events.Errorf(events.Unavailable, "another change of credential %s is not done yet; try again", name)
	}
	return nil
}

// check checks all that can be told of a credential by itself.
func (c *Credential) check() *events.Error {
	switch {
	case !ledger.ValidAccount(c.Name):
		return events.Errorf(events.InvalidArgument, "name must be 1 to 64 of A-Z a-z 0-9 _ - and not _ alone")
	case !slices.Contains(roleNames, c.Role):
		return events.Errorf(events.InvalidArgument, "role must be one of %s", strings.Join(roleNames, ", "))
	case c.Role == RoleCustomer && c.Account == "":
		return events.Errorf(events.InvalidArgument, "a customer is of one account: account is missing")
	case c.Role == RoleGateway && c.Account != "":
		return events.Errorf(events.InvalidArgument, "a gateway decides for all accounts: leave account out")
	case c.Account != "" && !ledger.ValidAccount(c.Account):
		return events.Errorf(events.InvalidArgument, "an account id has 1 to 64 of A-Z a-z 0-9 _ - and is not _ alone")
	case !nkeys.IsValidPublicUserKey(c.PublicKey):
		return events.Errorf(events.InvalidArgument, "public_key must be a public user nkey: it begins with U")
	case !validInbox(c.Inbox):
		return events.Errorf(events.InvalidArgument, "inbox must be %d of a-z 2-7, derived from the seed as the guide says", store.InboxLength)
	}
	return nil
}

func validInbox(token string) bool {
	return len(token) == store.InboxLength && strings.Trim(token, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

// revoke handles keyledger.cmd._.creds.revoke.
func (k *credentials) revoke(ctx context.Context, _ string, body []byte) (any, events.Position, *events.Error) {
	var in struct {
		Name string `json:"name"`
	}
	if err := events.DecodeStrict(body, &in); err != nil {
		return nil, events.Position{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.idle(in.Name); err != nil {
		return nil, events.Position{}, err
	}
	c := k.list[in.Name]
	if c == nil {
		return nil, events.Position{}, events.Errorf(events.NotFound, "there is no credential %.80q; \"keyledger creds list\" shows them", in.Name)
	}
	next := maps.Clone(k.list)
	delete(next, c.Name)
	if err := k.keep(next); err != nil {
		return nil, events.Position{}, err
	}
	// If we stop here: its connections end with us, and there are no new ones.
	closed, err := k.gate.expel(c.PublicKey)
	if err != nil {
		return nil, events.Position{}, events.Errorf(events.OutcomeUnknown, "nobody can connect with it any more, but connections may be open: %v", err)
	}
	// If we stop here: its consumer stays until there is another of its name.
	k.forget(ctx, c.Name)
	result := struct {
		*credentialView
		Closed int `json:"connections_closed"`
	}{k.view(c), closed}
	return map[string]any{"credential": result}, k.end(), nil
}

// forget deletes the consumer that a credential of this name may have had. The caller holds mu,
// which is given up meanwhile: the store may take its time.
func (k *credentials) forget(ctx context.Context, name string) {
	k.busy[name] = true
	k.mu.Unlock()
	err := k.js.DeleteConsumer(ctx, store.StreamFeed(partition), consumerOf(name))
	k.mu.Lock()
	delete(k.busy, name)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		k.log.Warn("cannot delete the consumer of a credential that is gone", "consumer", consumerOf(name), "error", err)
	}
}

// credentialView is what is shown of a credential.
type credentialView struct {
	Name      string      `json:"name"`
	Role      string      `json:"role"`
	Account   *string     `json:"account"` // null: all accounts
	Status    string      `json:"status"`  // active or expired
	PublicKey string      `json:"public_key"`
	CreatedAt events.Time `json:"created_at"`
	ExpiresAt events.Time `json:"expires_at"`
	Consumer  string      `json:"consumer,omitempty"` // a customer's, on the feed's stream
}

func (k *credentials) view(c *Credential) *credentialView {
	v := &credentialView{Name: c.Name, Role: c.Role, Status: "active", PublicKey: c.PublicKey, CreatedAt: c.CreatedAt, ExpiresAt: c.ExpiresAt}
	if c.Account != "" {
		v.Account = &c.Account
	}
	if c.ExpiresAt != 0 && c.ExpiresAt <= events.At(k.now()) {
		v.Status = "expired"
	}
	if c.Role == RoleCustomer {
		v.Consumer = consumerOf(c.Name)
	}
	return v
}

func (k *credentials) shown(c *Credential) (any, events.Position, *events.Error) {
	return map[string]any{"credential": k.view(c)}, k.end(), nil
}

// page handles keyledger.query._.creds.list: by name, a cursor being the last name told.
func (k *credentials) page(_ context.Context, account string, body []byte) (any, events.Position, *events.Error) {
	in := struct {
		Limit  int    `json:"limit"`
		Cursor string `json:"cursor"`
	}{Limit: credentialsPageDefault}
	if err := events.DecodeStrict(body, &in); err != nil {
		return nil, events.Position{}, err
	}
	switch {
	case account != "_":
		return nil, events.Position{}, events.Errorf(events.InvalidArgument, "credentials are the ledger's own: ask keyledger.query._.creds.list")
	case in.Limit < 1 || in.Limit > CredentialsPageMax:
		return nil, events.Position{}, events.Errorf(events.InvalidArgument, "limit must be 1 to %d", CredentialsPageMax).With("limit", CredentialsPageMax)
	case in.Cursor != "" && !ledger.ValidAccount(in.Cursor):
		return nil, events.Position{}, events.Errorf(events.InvalidArgument, "cursor must be the next_cursor of a list before")
	}
	out := struct {
		Credentials []*credentialView `json:"credentials"`
		NextCursor  *string           `json:"next_cursor"`
	}{Credentials: []*credentialView{}}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range sortedCredentials(k.list) {
		if c.Name <= in.Cursor {
			continue
		}
		if len(out.Credentials) == in.Limit {
			out.NextCursor = &out.Credentials[in.Limit-1].Name
			break
		}
		out.Credentials = append(out.Credentials, k.view(c))
	}
	return &out, k.end(), nil
}

func sortedCredentials(list map[string]*Credential) []*Credential {
	return slices.SortedFunc(maps.Values(list), func(a, b *Credential) int { return cmp.Compare(a.Name, b.Name) })
}

// keep makes next what there is: in the file, then in memory.
func (k *credentials) keep(next map[string]*Credential) *events.Error {
	if k.closed {
		return events.Errorf(events.Unavailable, "keyledger is stopping; nothing was changed")
	}
	err := k.dir.writeCredentials(sortedCredentials(next))
	switch {
	case err == nil:
		k.list = next
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		// No file takes the place of the other before it is whole on the disk.
		return events.Errorf(events.StorageFull, "the credentials could not be written, nothing was changed: %v", err)
	}
	// It may be on the disk all the same, and hold after the next start.
	return events.Errorf(events.OutcomeUnknown, "the credentials could not be written for sure; send it again: %v", err)
}

// Close waits for a change that is under way and lets no other begin.
func (k *credentials) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
}

// credentialsFile is the form of the file.
type credentialsFile struct {
	Version     int           `json:"version"`
	Credentials []*Credential `json:"credentials"`
}

// credentials reads the file. There is none before the first credential. One that others
// can read, that is not whole, or in which two are the same is refused: it says who may do
// what. With the operator's public key in it the operator would have a credential's rights.
func (d *dataDir) credentials(operator string) ([]*Credential, error) {
	path := d.credentialsPath()
	text, err := readPrivate(path, credentialsBytesMax)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	var file credentialsFile
	if err := json.Unmarshal([]byte(text), &file); err != nil {
		return nil, fmt.Errorf("read credentials %s: it is not whole JSON; restore it, or move it away and make new ones", path)
	}
	if file.Version != credentialsVersion {
		return nil, fmt.Errorf("read credentials %s: its version is %d, this program knows %d; use the program that wrote it", path, file.Version, credentialsVersion)
	}
	file = credentialsFile{}
	if err := events.DecodeStrict([]byte(text), &file); err != nil { // no member that this program does not know
		return nil, fmt.Errorf("read credentials %s: %s; restore it, or move it away and make new ones", path, err.Message)
	}
	for _, c := range file.Credentials {
		if err := c.check(); err != nil {
			return nil, fmt.Errorf("read credentials %s: %q: %s; restore it, or move it away and make new ones", path, c.Name, err.Message)
		}
	}
	if err := checkDistinct(file.Credentials, operator); err != nil {
		return nil, fmt.Errorf("read credentials %s: %w; take it out of the file, or move the file away and make new ones", path, err)
	}
	return file.Credentials, nil
}

// checkDistinct says which credential has what another one, or the operator, has.
func checkDistinct(list []*Credential, operator string) error {
	names, keys, inboxes := map[string]bool{}, map[string]string{}, map[string]string{}
	for _, c := range list {
		switch {
		case names[c.Name]:
			return fmt.Errorf("%q stands in it twice", c.Name)
		case c.PublicKey == operator:
			return fmt.Errorf("%q has the operator's public key", c.Name)
		case keys[c.PublicKey] != "":
			return fmt.Errorf("%q has the public key of %q", c.Name, keys[c.PublicKey])
		case inboxes[c.Inbox] != "":
			return fmt.Errorf("%q has the inbox of %q", c.Name, inboxes[c.Inbox])
		}
		names[c.Name], keys[c.PublicKey], inboxes[c.Inbox] = true, c.Name, c.Name
	}
	return nil
}

func (d *dataDir) writeCredentials(list []*Credential) error {
	text, err := events.Encode(&credentialsFile{Version: credentialsVersion, Credentials: list})
	if err != nil {
		return fmt.Errorf("encode credentials: %w", err)
	}
	return writeSecret(d.credentialsPath(), string(text))
}
