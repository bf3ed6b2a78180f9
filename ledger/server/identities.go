package server

import (
	"fmt"
	"slices"
	"strings"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/keyledger/keyledger/events/store"
)

// Who may do what on the embedded NATS. Nobody is anonymous.
//
// There are two NATS accounts, which are walls between subjects, and nothing to do
// with the customers that keyledger calls accounts:
//
//   - the store has JetStream: the log and every stream derived from it. Only
//     keyledger itself can connect to it, and only from inside its own process;
//   - the clients' side carries commands, queries, authorize and their answers,
//     with keyledger's service and everybody else on it. It has no streams.
//
// One account with user permissions would not do. Permissions bind what a user
// publishes, not where it sends the server's answer: a reply subject, and the
// deliver_subject of a push consumer, are published to by the server itself, and
// either can name keyledger.log.0 (TestNATSPublishesWhereARequestSays).
//
// The wall keeps that from the streams: across it such a subject names something in the
// clients' account. It does not keep it from what listens there: keyledger.cmd.> is the
// service's, keyledger.events.> and keyledger.checkpoints.> are other clients'. So whoever
// has less than the operator's rights may send no request that the store answers by import
// (the rows marked toStore…, which are the operator's alone): the service answers to inboxes
// only, and so does the store what comes past the guard (consumer_guard.go), which also
// holds the creation of consumers to that. And the service takes nothing for a command that
// the server may have published (service.fromServer). Back across the wall come the store's
// answers, what it sends to inboxes, and the feed.
//
// Commands do not cross: an import costs twice what the rest of a request does
// (BenchmarkRequest).
const (
	natsAccountStore   = "KEYLEDGER_STORE"   // also the folder of the streams: for ever
	natsAccountClients = "KEYLEDGER_CLIENTS" // holds nothing: may change

	// inboxes is where clients get their answers and what their consumers deliver. Only the
	// operator may listen to all of it; a credential has a part of its own.
	inboxes = store.InboxRoot + ">"
	// subjectCheckpoints is where checkpoints are told as they are signed.
	subjectCheckpoints = "keyledger.checkpoints.>"
	// inboxPrefixOwn is where keyledger's own connections get theirs. It is not
	// under _INBOX, which crosses the wall, so nobody can listen to them.
	inboxPrefixOwn = "_KEYLEDGER"
)

// way is where a subject leads.
type way int

const (
	toService    way = iota // to keyledger's service, in the clients' own account
	toGuard                 // to the consumer guard, likewise, and back by it
	toGuardInbox            // to the consumer guard, likewise; the store answers to the inbox
	toClients               // to other clients, likewise
	toStore                 // across the wall; one answer; the operator's alone
	toStoreBatch            // across the wall; several answers, at once; likewise
)

// forgetAnswers is how long the wall remembers where the answers of a batch go after the
// last one came, and where one goes that does not come. It cannot know which is the last, so
// this is a compromise with memory: each remembered request costs about 400 bytes.
const forgetAnswers = 10 * time.Second

// mayPublish is a subject that a client may publish to; what is not listed is refused.
type mayPublish struct {
	subject string
	way     way
	what    string
}

// maySubscribe is a subject that a client may subscribe to, or any part of it.
type maySubscribe struct {
	subject   string
	fromStore bool // it comes across the wall, too
	what      string
}

// operatorPublishes: all commands and queries, and of JetStream what reads.
//
// Not in it, so refused: every stream's own subjects (log, feed, lanes, attempts,
// access, checkpoints, $KV, $O), everything of $JS.API that creates, changes,
// purges, deletes, copies out or moves a stream or a message, and $SYS.
var operatorPublishes = []mayPublish{
	{store.SubjectCommand + ">", toService, "commands"},
	{store.SubjectQuery + ">", toService, "queries"},
	{store.SubjectAuthorize, toService, "the hot path"},
	{store.SubjectReplay + ">", toClients, "audit replay to other clients; no stream and nothing of ours listens"},
	{"$SRV.>", toService, "micro service discovery (ADR-32): PING, INFO, STATS"},

	{"$JS.API.INFO", toStore, "what JetStream holds"},
	{"$JS.API.STREAM.INFO.*", toStore, "a stream's state and settings"},
	{"$JS.API.STREAM.NAMES", toStore, "names of streams"},
	{"$JS.API.STREAM.LIST", toStore, "streams, with their state"},
	{"$JS.API.STREAM.MSG.GET.*", toStore, "one stored message"},
	{"$JS.API.DIRECT.GET.*", toStoreBatch, "one stored message, or a batch (ADR-31)"},
	{"$JS.API.DIRECT.GET.*.>", toStore, "the last message of a subject: a KV get"},
	{subjectConsumerCreate, toGuard, "a reader's place in a stream"},
	{"$JS.API.CONSUMER.INFO.*.*", toGuard, "a consumer's state"},
	{"$JS.API.CONSUMER.NAMES.*", toStore, "names of a stream's consumers"},
	{"$JS.API.CONSUMER.LIST.*", toStore, "a stream's consumers"},
	{"$JS.API.CONSUMER.DELETE.*.*", toGuard, "end of a consumer: readers tidy up"},
	{"$JS.API.CONSUMER.MSG.NEXT.*.*", toGuardInbox, "pull messages"},
	{subjectAck + ">", toGuardInbox, "acknowledge a consumer's message"},
	{"$JS.FC.>", toStore, "a push consumer's flow control"},
}

// operatorSubscribes: what is addressed to it, and the feed as it is written.
//
// Not in it, so refused: commands, queries and authorize, which carry secrets, and
// $SRV, which would let it pose as the service. Nor ">", which holds all of these.
var operatorSubscribes = []maySubscribe{
	{inboxes, true, "answers, and what its consumers deliver"},
	{"keyledger.events.>", true, "the feed, live"},
	{subjectCheckpoints, true, "signed checkpoints, as they are signed"},
	{store.SubjectReplay + ">", false, "what another client replays"},
}

// What credentials (credentials.go) may do. All of it is allowed to the operator too, and
// goes the way of the operator's rows: to the service or past the guard, never across the
// wall by import. In a subject stand
//
//	{account}   for the credential's account; for those of all accounts it is *,
//	{consumer}  for the one consumer of the feed that it may have (consumerOf),
//	{events}    for the feed's stream, {feed} for what its subjects begin with.
//
// NATS holds a creation's filter and name, which stand in its subject, against its body, so
// that a customer's consumer has its account's events only, and is nobody else's.
var (
	// everyRole may ask for the newest signed checkpoint: it says nothing of any account.
	everyRole = []string{store.SubjectQuery + "_.checkpoint.newest"}

	rolePublishes = map[string][]string{
		RoleReader:  {store.SubjectQuery + "{account}.>"},
		RoleGateway: {store.SubjectAuthorize},
		RoleCustomer: {
			store.SubjectCommand + "{account}.key.*",
			store.SubjectCommand + "{account}.endpoint.*",
			store.SubjectQuery + "{account}.>",
			"$JS.API.CONSUMER.CREATE.{events}.{consumer}.{feed}{account}.>",
			"$JS.API.CONSUMER.INFO.{events}.{consumer}",
			"$JS.API.CONSUMER.DELETE.{events}.{consumer}",
			"$JS.API.CONSUMER.MSG.NEXT.{events}.{consumer}",
			"$JS.ACK.{events}.{consumer}.>",
		},
	}

	// roleDenied are queries that are no mere reading: a reader starts no work, and has nothing
	// sent to anybody.
	roleDenied = map[string][]string{
		RoleReader: {store.SubjectQuery + "*.projection.rebuild", store.SubjectQuery + "*.projection.verify", store.SubjectQuery + "*.endpoint.doctor"},
	}

	// roleSubscribes is beside its own inbox and the checkpoints.
	roleSubscribes = map[string][]string{
		RoleCustomer: {"{feed}{account}.>"},
	}
)

// permissions is what a credential may do.
func (c *Credential) permissions() *natsserver.Permissions {
	account := c.Account
	if account == "" {
		account = "*"
	}
	fill := strings.NewReplacer("{account}", account, "{consumer}", consumerOf(c.Name),
		"{events}", store.StreamFeed(partition), "{feed}", store.SubjectFeed(partition))
	filled := func(lists ...[]string) (subjects []string) {
		for _, subject := range slices.Concat(lists...) {
			subjects = append(subjects, fill.Replace(subject))
		}
		return subjects
	}
	return &natsserver.Permissions{
		Publish:   &natsserver.SubjectPermission{Allow: filled(rolePublishes[c.Role], everyRole), Deny: roleDenied[c.Role]},
		Subscribe: &natsserver.SubjectPermission{Allow: filled(roleSubscribes[c.Role], []string{store.InboxRoot + c.Inbox + ".>", subjectCheckpoints})},
	}
}

// identities are the two accounts of one embedded server, who is let into them, and the keys
// of keyledger's own connections.
type identities struct {
	store, clients *natsserver.Account
	gate           *gate
	own            map[string]nkeys.KeyPair // by account; made for this process, in memory only
}

// newIdentities makes keyledger's own two users, one an account, the operator, whose
// public user nkey is given, and those of the credentials there are.
//
// keyledger's own may do everything in its account, but only over a connection made
// inside the process: its seed is useless on the network even if it leaked.
func newIdentities(operator string, list []*Credential) (*identities, error) {
	if !nkeys.IsValidPublicUserKey(operator) {
		return nil, fmt.Errorf("make NATS identities: %q is not a public user nkey", operator)
	}
	ids := &identities{
		store:   natsserver.NewAccount(natsAccountStore),
		clients: natsserver.NewAccount(natsAccountClients),
		gate:    &gate{users: make(map[string]*gateUser)},
		own:     make(map[string]nkeys.KeyPair),
	}
	if err := ids.buildWall(); err != nil {
		return nil, fmt.Errorf("make NATS identities: %w", err)
	}
	for _, account := range []string{natsAccountStore, natsAccountClients} {
		pair, err := nkeys.CreateUser()
		if err != nil {
			return nil, fmt.Errorf("make NATS identities: %w", err)
		}
		public, err := pair.PublicKey()
		if err != nil {
			return nil, fmt.Errorf("make NATS identities: %w", err)
		}
		ids.own[account] = pair
		ids.gate.users[public] = &gateUser{account: account, inProcess: true}
	}
	ids.gate.users[operator] = &gateUser{
		account: natsAccountClients,
		permissions: &natsserver.Permissions{
			Publish:   &natsserver.SubjectPermission{Allow: publishable(operatorPublishes)},
			Subscribe: &natsserver.SubjectPermission{Allow: subscribable(operatorSubscribes)},
		},
	}
	for _, c := range list {
		ids.gate.admit(c)
	}
	return ids, nil
}

// buildWall lets the toStore rows cross from the clients to the store, and inboxes
// and the feed back. Exports are open to the clients' account alone.
//
// The store answers a crossing request on a subject of its own making (_R_.…), which
// NATS maps to the requester's reply subject in the clients' account. It forgets the
// mapping with the answer, or, where more may come, some time after the last.
func (ids *identities) buildWall() error {
	to := []*natsserver.Account{ids.clients}
	for _, row := range operatorPublishes {
		answers := natsserver.Singleton
		switch row.way {
		case toService, toGuard, toGuardInbox, toClients:
			continue
		case toStoreBatch:
			answers = natsserver.Streamed
		}
		// The import takes the kind of its answers from the export: export first.
		if err := ids.store.AddServiceExportWithResponse(row.subject, answers, to); err != nil {
			return fmt.Errorf("export %s: %w", row.subject, err)
		}
		if err := ids.store.SetServiceExportResponseThreshold(row.subject, forgetAnswers); err != nil {
			return fmt.Errorf("export %s: %w", row.subject, err)
		}
		if err := ids.clients.AddServiceImport(ids.store, row.subject, row.subject); err != nil {
			return fmt.Errorf("import %s: %w", row.subject, err)
		}
	}
	for _, row := range operatorSubscribes {
		if !row.fromStore {
			continue
		}
		if err := ids.store.AddStreamExport(row.subject, to); err != nil {
			return fmt.Errorf("export %s: %w", row.subject, err)
		}
		if err := ids.clients.AddMappedStreamImport(ids.store, row.subject, row.subject); err != nil {
			return fmt.Errorf("import %s: %w", row.subject, err)
		}
	}
	return nil
}

func publishable(rows []mayPublish) []string {
	subjects := make([]string, len(rows))
	for i, row := range rows {
		subjects[i] = row.subject
	}
	return subjects
}

func subscribable(rows []maySubscribe) []string {
	subjects := make([]string, len(rows))
	for i, row := range rows {
		subjects[i] = row.subject
	}
	return subjects
}
