package server

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger/service"
)

// credential lets a new credential in and connects with it.
func (r *rig) credential(name, role, account string) (*client, *Credential) {
	r.t.Helper()
	pair, public := newUser(r.t)
	token, err := store.InboxToken(pair.Sign)
	if err != nil {
		r.t.Fatal(err)
	}
	cred := &Credential{Name: name, Role: role, Account: account, PublicKey: public, Inbox: token, CreatedAt: 1}
	if err := cred.check(); err != nil {
		r.t.Fatal(err)
	}
	r.nats.ids.gate.admit(cred)
	c := &client{errs: make(chan error, 2000)}
	c.Conn = r.must(nats.Connect(r.nats.ClientURL(), nats.Nkey(public, pair.Sign), nats.CustomInboxPrefix(store.InboxRoot+token),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.errs <- err })))
	return c, cred
}

// violated is the subjects that the server refused up to now. It publishes one that nobody
// may, whose refusal comes last.
func (c *client) violated(t *testing.T) map[string]bool {
	t.Helper()
	const last = "the.last.of.all"
	if err := c.Publish(last, nil); err != nil {
		t.Fatal(err)
	}
	subjects := map[string]bool{}
	for {
		select {
		case err := <-c.errs:
			subject := strings.Split(err.Error(), `"`)
			if len(subject) < 3 || !strings.Contains(err.Error(), "ermissions Violation") {
				t.Fatalf("not a violation of a subject: %v", err)
			}
			if subject[1] == last {
				return subjects
			}
			subjects[subject[1]] = true
		case <-time.After(patience):
			t.Fatal("no permissions violation of the last subject")
		}
	}
}

// everySubject is what there is to publish to: every verb of accounts and of the ledger,
// JetStream's API, discovery, inboxes and streams.
func everySubject(cred *Credential) []string {
	list := slices.Clone(forbiddenToPublish)
	queries := []string{
		"account.get", "account.list", "key.get", "key.list", "balance.get", "statement.list", "usage.get", "hold.list",
		"endpoint.get", "endpoint.list", "endpoint.doctor", "endpoint.status", "delivery.list", "delivery.get", "access.list", "ledger.status", "creds.list",
		"projection.list", "projection.rebuild", "projection.verify", "checkpoint.get", "checkpoint.newest", "proof.get", "proof.consistency",
	}
	for _, account := range []string{"acme", "other", "_", "*", ">", "acm", "acmee", "ACME"} {
		for _, verb := range append(service.Verbs(), "creds.create", "creds.revoke", "ledger.accept_clock") {
			list = append(list, store.SubjectCommand+account+"."+verb)
		}
		for _, verb := range queries {
			list = append(list, store.SubjectQuery+account+"."+verb)
		}
	}
	own := consumerOf(cred.Name)
	for _, stream := range []string{"KEYLEDGER_EVENTS_0", "KEYLEDGER_LOG_0", "*"} {
		for _, consumer := range []string{own, consumerOf("someone"), "x", "*"} {
			create := "$JS.API.CONSUMER.CREATE." + stream + "." + consumer
			list = append(list, create, create+".keyledger.events.0.acme.>", create+".keyledger.events.0.acme.test.key.*.*", create+".keyledger.events.0.other.>",
				create+".keyledger.events.0.*.>", create+".keyledger.events.>", create+".>", create+".keyledger.log.0",
				"$JS.API.CONSUMER.INFO."+stream+"."+consumer, "$JS.API.CONSUMER.DELETE."+stream+"."+consumer, "$JS.API.CONSUMER.MSG.NEXT."+stream+"."+consumer,
				"$JS.API.CONSUMER.DURABLE.CREATE."+stream+"."+consumer, "$JS.ACK."+stream+"."+consumer+".1.1.1.1.0", "$JS.FC."+stream+"."+consumer+".x")
		}
		list = append(list, "$JS.API.STREAM.INFO."+stream, "$JS.API.STREAM.MSG.GET."+stream, "$JS.API.DIRECT.GET."+stream, "$JS.API.CONSUMER.CREATE."+stream,
			"$JS.API.DIRECT.GET."+stream+".keyledger.log.0", "$JS.API.DIRECT.GET."+stream+".keyledger.checkpoints.0",
			"$JS.API.CONSUMER.NAMES."+stream, "$JS.API.CONSUMER.LIST."+stream)
	}
	return append(list,
		"$JS.API.DIRECT.GET.KEYLEDGER_CHECKPOINTS_0.keyledger.checkpoints.0", "$JS.API.DIRECT.GET.KEYLEDGER_CHECKPOINTS_0", "$JS.API.STREAM.MSG.GET.KEYLEDGER_CHECKPOINTS_0",
		"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", store.SubjectAuthorize, "keyledger.authorize.x", "keyledger", store.SubjectReplay+"x",
		"$SRV.PING", "$SRV.INFO.keyledger", "$SRV.STATS.keyledger.x", "_INBOX."+cred.Inbox+".x", "_INBOX.x")
}

// everySubscription is what there is to listen to.
func everySubscription(cred *Credential) []string {
	return append(slices.Clone(forbiddenToSubscribe),
		"_INBOX.>", "_INBOX.*", "_INBOX.*.>", "_INBOX.someone.>", "_INBOX."+cred.Inbox, "_INBOX."+cred.Inbox+".>", "_INBOX."+cred.Inbox+".x.*",
		"keyledger.events.>", "keyledger.events.0.>", "keyledger.events.*.acme.>", "keyledger.events.0.*.>", "keyledger.events.0.acme.>", "keyledger.events.0.acme.*.key.>",
		"keyledger.events.0.other.>", "keyledger.events.0.acmee.>", "keyledger.checkpoints.>", "keyledger.checkpoints.0", store.SubjectReplay+">",
		"$JS.ACK.KEYLEDGER_EVENTS_0."+consumerOf(cred.Name)+".>")
}

// mayCustomer says what the customer "me" of acme may publish.
func mayCustomer(subject string) bool {
	const events = "KEYLEDGER_EVENTS_0.creds_me"
	for _, prefix := range []string{
		"keyledger.cmd.acme.key.", "keyledger.cmd.acme.endpoint.", "keyledger.query.acme.",
		"$JS.API.CONSUMER.CREATE." + events + ".keyledger.events.0.acme.", "$JS.ACK." + events + ".",
	} {
		if strings.HasPrefix(subject, prefix) {
			return true
		}
	}
	return slices.Contains([]string{"$JS.API.CONSUMER.INFO." + events, "$JS.API.CONSUMER.DELETE." + events, "$JS.API.CONSUMER.MSG.NEXT." + events}, subject)
}

// Each role may do what it is for; all else is refused by NATS itself. What is right is
// said here once more, in other words than those of the table.
func TestRolesMayDoTheirOwnOnly(t *testing.T) {
	query := func(account string) func(string) bool {
		return func(s string) bool {
			work := strings.HasSuffix(s, ".projection.rebuild") || strings.HasSuffix(s, ".projection.verify") || strings.HasSuffix(s, ".endpoint.doctor")
			return strings.HasPrefix(s, "keyledger.query."+account) && !work
		}
	}
	none := func(string) bool { return false }
	for name, row := range map[string]struct {
		role, account      string
		publish, subscribe func(string) bool
		count              int // of what may be published, so that the universe has something of it
	}{
		"reader of one": {RoleReader, "acme", query("acme."), none, 15},
		"reader of all": {RoleReader, "", query(""), none, 8 * 15},
		"gateway":       {RoleGateway, "", func(s string) bool { return s == "keyledger.authorize" }, none, 1},
		"customer":      {RoleCustomer, "acme", mayCustomer, func(s string) bool { return strings.HasPrefix(s, "keyledger.events.0.acme.") }, 30},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			streams := r.ledgerStreams()
			before := lastSequences(t, streams)
			c, cred := r.credential("me", row.role, row.account)
			allowed := 0
			for _, subject := range everySubject(cred) {
				if err := c.Publish(subject, []byte("forged")); err != nil {
					t.Fatal(err)
				}
			}
			violated := c.violated(t)
			for _, subject := range everySubject(cred) {
				want := row.publish(subject) || subject == "keyledger.query._.checkpoint.newest"
				if want {
					allowed++
				}
				if violated[subject] == want {
					t.Errorf("publish %s: allowed is %v, want %v", subject, !violated[subject], want)
				}
			}
			if allowed < row.count {
				t.Errorf("only %d subjects were to be allowed, want %d", allowed, row.count)
			}
			for _, subject := range everySubscription(cred) {
				if _, err := c.SubscribeSync(subject); err != nil {
					t.Fatal(err)
				}
			}
			violated = c.violated(t)
			for _, subject := range everySubscription(cred) {
				want := row.subscribe(subject) || strings.HasPrefix(subject, "_INBOX."+cred.Inbox+".") || strings.HasPrefix(subject, "keyledger.checkpoints.")
				if violated[subject] == want {
					t.Errorf("subscribe %s: allowed is %v, want %v", subject, !violated[subject], want)
				}
			}
			if after := lastSequences(t, streams); !maps.Equal(before, after) {
				t.Errorf("streams changed: %v, then %v", before, after)
			}
		})
	}
}

// Permissions do not bind reply subjects: a caller may have its answer published to any
// inbox that it can name. So nobody can name another's, whatever else is known of it; and
// whoever was told could, which is why an inbox is as secret as a seed.
func TestNobodyNamesAnothersInbox(t *testing.T) {
	r := newRig(t, nil)
	svc := r.service()
	if _, err := svc.Subscribe("keyledger.>", func(m *nats.Msg) {
		if isInbox(m.Reply) {
			_ = m.Respond([]byte(m.Subject))
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := svc.Flush(); err != nil {
		t.Fatal(err)
	}
	victim, known := r.credential("victim", RoleReader, "other")
	heard, err := victim.SubscribeSync("_INBOX." + known.Inbox + ".>")
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Flush(); err != nil {
		t.Fatal(err)
	}
	for role, request := range map[string]string{
		RoleReader: "keyledger.query.acme.key.list", RoleGateway: "keyledger.authorize", RoleCustomer: "keyledger.cmd.acme.key.create",
	} {
		account := "acme"
		if role == RoleGateway {
			account = ""
		}
		c, _ := r.credential("attacker-"+role, role, account)
		send := func(reply string) {
			if err := c.PublishRequest(request, reply, []byte("{}")); err != nil {
				t.Fatal(err)
			}
		}
		for _, guess := range []string{
			"_INBOX.>", "_INBOX.*.>", "_INBOX.*.x", "_INBOX.*.*.*", "_INBOX." + known.PublicKey + ".x", "_INBOX." + strings.ToLower(known.PublicKey)[:store.InboxLength] + ".x",
			"_INBOX." + known.Name + ".x", "_INBOX." + known.Inbox[:store.InboxLength-1] + ".x", "_INBOX." + strings.ToUpper(known.Inbox) + ".x", "_INBOX." + known.Inbox,
		} {
			send(guess)
		}
		// Its own request goes the same way after those.
		ask(t, c.Conn, request, "{}")
		if err := victim.Flush(); err != nil {
			t.Fatal(err)
		}
		if n, _, _ := heard.Pending(); n > 0 {
			m, _ := heard.NextMsg(patience)
			t.Errorf("%s: the victim heard %q on %s", role, m.Data, m.Subject)
		}
		send("_INBOX." + known.Inbox + ".x")
		m, err := heard.NextMsg(patience)
		if err != nil || string(m.Data) != request {
			t.Fatalf("%s, told the inbox: %v, %v; permissions bind reply subjects now: say so in the documents", role, m, err)
		}
		// A request of the victim's is answered by its own answer all the same.
		if got := ask(t, victim.Conn, "keyledger.query.other.key.list", "{}"); string(got.Data) != "keyledger.query.other.key.list" {
			t.Errorf("%s: the victim got %s", role, got.Data)
		}
		if m, err := heard.NextMsg(patience); err != nil || string(m.Data) != "keyledger.query.other.key.list" {
			t.Errorf("%s: %v, %v", role, m, err)
		}
		if len(c.errs) > 0 {
			t.Errorf("%s: %v", role, <-c.errs)
		}
	}
}
