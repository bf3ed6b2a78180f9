package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/writer"
)

const (
	// scaleCredits is what each account is granted.
	scaleCredits = int64(1) << 40
	// fillWaiting bounds what waits for the writer while a log is filled.
	fillWaiting = 20_000
	// fillReceipts is more than a log gets that is filled: it may forget none of them.
	fillReceipts = maxRebuildEvents
	// storeAccount is the NATS account that keyledger keeps its streams in.
	storeAccount = "KEYLEDGER_STORE"
)

// fillSealKey seals what endpoints hold that are made here; "bench dispatcher" opens it.
var fillSealKey [32]byte

// openedStore is a keyledger's streams, without a keyledger.
type openedStore struct {
	server *natsserver.Server
	user   nkeys.KeyPair
	conn   *nats.Conn
	js     jetstream.JetStream
	log    *store.JetStream
	took   time.Duration // until JetStream had recovered all streams
}

// openStore opens the streams of a data directory, as lazily synced as JetStream does it
// by default.
func openStore(ctx context.Context, dir string) (*openedStore, error) {
	account := natsserver.NewAccount(storeAccount)
	user, public, err := newUser()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	s := &openedStore{user: user}
	s.server, err = natsserver.NewServer(&natsserver.Options{
		ServerName: "keyledger", DontListen: true, MaxPayload: 1 << 20, NoSigs: true, NoLog: true,
		Accounts: []*natsserver.Account{account}, Nkeys: []*natsserver.NkeyUser{{Nkey: public, Account: account}},
		JetStream: true, StoreDir: filepath.Join(dir, "nats"), JetStreamMaxStore: 1 << 50, DisableJetStreamBanner: true,
	})
	if err != nil {
		return nil, err
	}
	s.server.Start()
	// The server has its own copy of the account.
	if account, err = s.server.LookupAccount(storeAccount); err == nil {
		err = account.EnableJetStream(nil, nil)
	}
	s.took = time.Since(begin)
	if err == nil {
		s.conn, err = s.connect(s.server)
	}
	if err == nil {
		s.js, err = jetstream.New(s.conn)
	}
	if err == nil {
		s.log, err = store.OpenJetStream(ctx, s.js, 0)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("open the streams in %s: %w", dir, err)
	}
	return s, nil
}

// connect makes a connection inside this process.
func (s *openedStore) connect(to nats.InProcessConnProvider, options ...nats.Option) (*nats.Conn, error) {
	public, err := s.user.PublicKey()
	if err != nil {
		return nil, err
	}
	return nats.Connect("", append(options, nats.InProcessServer(to), nats.Nkey(public, s.user.Sign))...)
}

func (s *openedStore) close() {
	if s.conn != nil {
		s.conn.Close()
	}
	s.server.Shutdown()
	s.server.WaitForShutdown()
}

// runOpen prints how long JetStream takes to open a data directory: "bench open".
func runOpen(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench open", flag.ContinueOnError)
	dir := flags.String("dir", "", "data `DIR`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s, err := openStore(ctx, *dir)
	if err != nil {
		return err
	}
	s.close()
	fmt.Println(s.took.Seconds())
	return nil
}

// runFill commits to the log of a data directory that keyledger has made and is not
// running on: accounts with credits and a key each, or debits in such accounts. It is the
// real writer on the real log. It writes neither head file nor snapshot, so what it
// commits is what the next start has to read. "bench fill".
func runFill(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("bench fill", flag.ContinueOnError)
	dir := flags.String("dir", "", "data `DIR`")
	prefix := flags.String("prefix", "bench", "what accounts' names begin with")
	accounts := flags.Int("accounts", 0, "how many accounts there are")
	debits := flags.Int("debits", 0, "how many debits to make in them; 0 makes the accounts")
	endpoints := flags.Int("endpoints", 0, "with the accounts: how many webhook endpoints each gets, sealed with fillSealKey")
	url := flags.String("url", "", "`URL` of the endpoints")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s, err := openStore(ctx, *dir)
	if err != nil {
		return err
	}
	defer s.close()
	w := writer.New(writer.Config{Log: s.log, Tail: store.NewTail(s.log, 0), MaxReceipts: fillReceipts})
	ctx, stop := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	go func() { stopped <- w.Run(ctx) }()
	defer func() {
		stop()
		err = errors.Join(err, <-stopped)
	}()
	select {
	case <-w.Ready():
	case err := <-stopped:
		stopped <- nil
		return err
	}
	f := &filler{writer: w, room: make(chan struct{}, fillWaiting)}
	if f.sealer, err = events.NewSealer(fillSealKey[:]); err != nil {
		return err
	}
	names := load.AccountNames(*prefix, *accounts)
	for i := range *debits {
		f.submit(names[i%len(names)], "credit.debit", &ledger.DebitCredit{Environment: events.Test, Asset: "credits", Amount: 1}, true)
	}
	for _, name := range names {
		if *debits > 0 || ctx.Err() != nil {
			break
		}
		f.account(name)
		for range *endpoints {
			f.endpoint(name, *url)
		}
	}
	return f.finish()
}

// debits are some in the first accounts of a log, spread evenly.
type debits struct{ accounts, count int }

// makeLog lets keyledger make a data directory and fills its log with accounts, and with
// debits in them.
func makeLog(ctx context.Context, program, dir string, accounts int, more ...debits) error {
	if err := makeAccounts(ctx, program, dir, accounts); err != nil {
		return err
	}
	return makeDebits(ctx, dir, more...)
}

// makeAccounts is makeLog's first half; flags are more of "bench fill".
func makeAccounts(ctx context.Context, program, dir string, accounts int, flags ...string) error {
	p, err := startKeyledger(ctx, nil, program, dir)
	if err != nil {
		return err
	}
	if err := p.stop(); err != nil {
		return err
	}
	_, err = runSelf(ctx, dir, "fill", append([]string{"-accounts", strconv.Itoa(accounts)}, flags...)...)
	return err
}

// makeDebits is its second.
func makeDebits(ctx context.Context, dir string, more ...debits) error {
	for _, d := range more {
		if d.count == 0 {
			continue // it would make the accounts
		}
		if _, err := runSelf(ctx, dir, "fill", "-accounts", strconv.Itoa(d.accounts), "-debits", strconv.Itoa(d.count)); err != nil {
			return err
		}
	}
	return nil
}

// filler hands commands to a writer.
type filler struct {
	writer *writer.Writer
	sealer *events.Sealer
	room   chan struct{} // has one token for each command that waits
	failed atomic.Pointer[error]
}

// account makes an account with credits and a key. None of it leaves a receipt.
func (f *filler) account(name string) {
	f.submit(name, "account.open", &ledger.OpenAccount{Name: "keyledger bench"}, false)
	f.submit(name, "credit.grant", &ledger.GrantCredit{Environment: events.Test, Asset: "credits", Amount: scaleCredits}, false)
	key := &ledger.CreateKey{Environment: events.Test, Name: "keyledger bench", KeyID: ulid.Make()}
	var random [32]byte
	rand.Read(random[:])
	secret := ledger.NewSecret(events.Test, name, key.KeyID, random)
	key.Hash, key.Prefix = sha256.Sum256([]byte(secret)), ledger.SecretPrefix(secret)
	f.submit(name, "key.create", key, false)
}

// endpoint registers one for all of an account's debits.
func (f *filler) endpoint(account, url string) {
	e := &events.Endpoint{ID: ledger.EndpointIDPrefix + ulid.Make().String(), URL: url, Headers: []string{}}
	var secret [32]byte
	rand.Read(secret[:])
	e.SealedSecret = f.sealer.Seal(account, e.ID, "secret", secret[:])
	f.submit(account, "endpoint.register", &ledger.RegisterEndpoint{URL: url, Environment: events.Test, Events: []string{"credit.*"}, Endpoint: e}, false)
}

// submit hands a command in when there is room.
func (f *filler) submit(account, verb string, command ledger.Command, receipt bool) {
	if err := command.Validate(); err != nil {
		f.fail(err)
		return
	}
	f.room <- struct{}{}
	id := ulid.Make()
	f.writer.Submit(&writer.Request{
		Account: account, Verb: verb, Spec: specOf(verb), Command: command, ID: id, Receipt: receipt, InputHash: sha256.Sum256(id[:]), Actor: "operator",
		Done: func(r *writer.Reply) {
			if r.Err != nil {
				f.fail(r.Err)
			}
			<-f.room
		},
	})
}

func (f *filler) fail(err error) { f.failed.CompareAndSwap(nil, &err) }

// finish waits until all is done and returns the first refusal.
func (f *filler) finish() error {
	for range cap(f.room) {
		f.room <- struct{}{}
	}
	if err := f.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func specOf(verb string) *ledger.Spec {
	for i := range ledger.Commands {
		if ledger.Commands[i].Verb == verb {
			return &ledger.Commands[i].Spec
		}
	}
	panic("no command " + verb)
}
