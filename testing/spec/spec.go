// Package spec runs the rules as given/when/then: given these commands, when this one
// comes, then these events happen or it is refused with this code. No server, no log, no
// clock: package ledger alone.
package spec

import (
	"crypto/sha256"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
)

// Start is the ledger's clock at the beginning of every Case.
var Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Account is the account that commands are given to, and Other a second one.
const (
	Account = "acme"
	Other   = "bolt"
)

// Step is one thing that happens: a command, an authorisation, or time that passes.
type Step struct {
	Verb string        // a command's verb, "authorize", or "" for time alone
	Body string        // JSON; "@key1" stands for the id of the first key, "@secret1" for the first secret that was made, "@endpoint1", "@hold1" and "@debit1" likewise; "@grant1" is the grant that the first refund makes
	Wait time.Duration // before it
	To   string        // the account, empty: Account
	At   time.Time     // when it happens, instead of Wait; zero: not said

	Edge func(ledger.Command) // says what the edge learned of the world, nil: nothing
}

// Do is a command.
func Do(verb, body string) Step { return Step{Verb: verb, Body: body} }

// Ask is an authorisation.
func Ask(body string) Step { return Step{Verb: "authorize", Body: body} }

// After is a step at a later time.
func After(d time.Duration, s Step) Step {
	s.Wait = d
	return s
}

// For is a step of another account.
func For(account string, s Step) Step {
	s.To = account
	return s
}

// Told is a step whose command the edge tells more.
func Told(edge func(ledger.Command), s Step) Step {
	s.Edge = edge
	return s
}

// At is a step at a moment in RFC 3339. The first step of a case may be before Start.
func At(moment string, s Step) Step {
	at, err := time.Parse(time.RFC3339, moment)
	if err != nil {
		panic(err) // a case that is written wrong
	}
	s.At = at
	return s
}

// Then is what is expected of the last step. Members of JSON objects that are not named
// are not looked at.
type Then struct {
	Events  []string    // types, in order; none: nothing changes
	Data    string      // members of the last event's data
	Reply   string      // members of the object that answers a command
	Code    events.Code // of a refusal, or of an answer
	Details string      // members of a refusal's details
	Answer  string      // members of an authorisation's answer
}

// Case is one line of the policy.
type Case struct {
	Name  string
	Given []Step
	When  Step
	Then  Then
}

// world is a ledger with the names that a case uses.
type world struct {
	t     *testing.T
	state *ledger.State
	now   time.Time
	count int
	log   map[entry][]events.Event
	names *strings.Replacer
	pairs []string
}

// entry is one of the log: of an account, with a command id.
type entry struct {
	account string
	id      ulid.ULID
}

// outcome is what one step led to.
type outcome struct {
	id     ulid.ULID // of the command
	events []events.Event
	err    *events.Error
	answer *ledger.Answer
}

// Run runs every case on a new ledger. Every event goes through its stored form on the
// way to the state.
func Run(t *testing.T, cases []Case) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			w := newWorld(t)
			for _, step := range c.Given {
				if out := w.step(step); out.err != nil {
					t.Fatalf("given %s %s: %v", step.Verb, step.Body, out.err)
				}
			}
			w.check(w.step(c.When), c.Then)
		})
	}
}

func newWorld(t *testing.T) *world {
	return &world{t: t, state: ledger.NewState(), now: Start, log: map[entry][]events.Event{}, names: strings.NewReplacer()}
}

// step runs one step and folds its events.
func (w *world) step(s Step) outcome {
	w.now = w.now.Add(s.Wait)
	if !s.At.IsZero() {
		if s.At.Before(w.now) && w.count > 0 {
			w.t.Fatalf("%s %s: at %s, and it is %s already", s.Verb, s.Body, s.At, w.now)
		}
		w.now = s.At
	}
	body := []byte(w.names.Replace(s.Body))
	due := w.due()
	var out outcome
	switch s.Verb {
	case "":
	case "authorize":
		out = w.authorize(body)
	default:
		out = w.command(s, body)
	}
	w.evolve(out.events)
	for i := range out.events {
		w.log[entry{out.events[0].Account, out.id}] = out.events
		switch d := out.events[i].Data.(type) {
		case *events.Debited:
			w.name("debit", d.ID)
		case *events.Refunded:
			w.name("grant", "grant_"+out.id.String())
		case *events.Held:
			if out.events[i].Type == "hold.placed" {
				w.name("hold", d.ID)
			} else if d.Capture != nil {
				w.name("debit", d.Capture.Debit)
			}
		}
	}
	out.events = append(due, out.events...)
	return out
}

// due is what time alone brings about before a step, folded.
func (w *world) due() (list []events.Event) {
	for {
		next := w.state.Due(events.At(w.now))
		if next == nil {
			return list
		}
		w.evolve(next)
		list = append(list, next...)
	}
}

// evolve folds events, through their stored form as every event goes.
func (w *world) evolve(list []events.Event) {
	for i := range list {
		e := stored(w.t, &list[i])
		w.state.Evolve(e)
		list[i] = *e
	}
}

func (w *world) id() ulid.ULID {
	w.count++
	var id ulid.ULID
	if err := id.SetTime(uint64(w.now.UnixMilli())); err != nil {
		w.t.Fatal(err)
	}
	id[15] = byte(w.count)
	id[14] = byte(w.count >> 8)
	return id
}

func (w *world) command(s Step, body []byte) outcome {
	verb, account := s.Verb, s.To
	if account == "" {
		account = Account
	}
	for i := range ledger.Commands {
		if ledger.Commands[i].Verb != verb {
			continue
		}
		spec := &ledger.Commands[i].Spec
		cmd := spec.New()
		if err := events.DecodeStrict(body, cmd); err != nil {
			return outcome{err: err}
		}
		if err := cmd.Validate(); err != nil {
			return outcome{err: err}
		}
		w.complete(cmd)
		if s.Edge != nil {
			s.Edge(cmd)
		}
		in := ledger.Input{AccountID: account, CommandID: w.id(), Time: events.At(w.now)}
		decision, err := ledger.Decide(w.state, spec, cmd, &in)
		if !decision.Cites.IsZero() {
			cmd.(ledger.Citer).Cite(w.log[entry{account, decision.Cites}])
			decision, err = ledger.Decide(w.state, spec, cmd, &in)
		}
		if c, ok := cmd.(*ledger.RotateKey); ok && err == nil {
			w.name("secret", c.Secret(decision.Events[0].Environment, Account))
		}
		return outcome{id: in.CommandID, events: decision.Events, err: err}
	}
	w.t.Fatalf("unknown verb %s", verb)
	return outcome{}
}

// complete does what the edge does: ids, secrets, sealed members.
func (w *world) complete(cmd ledger.Command) {
	id := w.id()
	switch c := cmd.(type) {
	case *ledger.ImportKey:
		c.KeyID = id
		w.name("key", "key_"+id.String())
	case *ledger.CreateKey:
		c.KeyID = id
		w.name("key", "key_"+id.String())
		if c.PublicKey != "" {
			break
		}
		secret := ledger.NewSecret(c.Environment, Account, id, sha256.Sum256(id[:]))
		c.Hash, c.Prefix = sha256.Sum256([]byte(secret)), ledger.SecretPrefix(secret)
		w.name("secret", secret)
	case *ledger.RotateKey:
		c.Random = sha256.Sum256(id[:])
	case *ledger.RegisterEndpoint:
		c.Endpoint = made(c.URL, c.Headers)
		c.Endpoint.ID, c.Endpoint.SealedSecret = ledger.EndpointIDPrefix+id.String(), id[:]
		c.Endpoint.PublicKey = "whpk_" + id.String()
		w.name("endpoint", c.Endpoint.ID)
	case *ledger.UpdateEndpoint:
		var address string
		if c.URL != nil {
			address = *c.URL
		}
		c.Made = made(address, c.Headers)
		c.Same = func(field string, sealed []byte) bool {
			if name, ok := strings.CutPrefix(field, "header/"); ok {
				return string(sealed) == "sealed "+c.Headers[name]
			}
			return string(sealed) == string(c.Made.SealedQuery)
		}
	case *ledger.RotateEndpointSecret:
		c.Sealed, c.PublicKey = id[:], "whpk_"+id.String()
	}
}

// made is what the edge makes of a URL and headers. Sealed is what says so.
func made(address string, headers map[string]string) *events.Endpoint {
	e := &events.Endpoint{Headers: slices.Sorted(maps.Keys(headers)), Consent: events.ConsentOff}
	for _, name := range e.Headers {
		e.SealedHeaders = append(e.SealedHeaders, []byte("sealed "+headers[name]))
	}
	var query string
	if e.URL, query, _ = strings.Cut(address, "?"); query != "" {
		e.SealedQuery = []byte("sealed " + query)
	}
	return e
}

// name binds "@<noun><n>" to a value, for the first nine of a noun.
func (w *world) name(noun, value string) {
	n := 1
	for _, s := range w.pairs {
		if strings.HasPrefix(s, "@"+noun) {
			n++
		}
	}
	if n > 9 {
		return
	}
	w.pairs = append(w.pairs, "@"+noun+string(rune('0'+n)), value)
	w.names = strings.NewReplacer(w.pairs...)
}

func (w *world) authorize(body []byte) outcome {
	a := new(ledger.Authorize)
	if err := events.DecodeStrict(body, a); err != nil {
		return outcome{err: err}
	}
	if err := a.Validate(); err != nil {
		return outcome{err: err}
	}
	if a.Signed() {
		for id, k := range w.state.Signing() {
			if id == a.Signer() {
				a.Verify(k.PublicKey())
			}
		}
	}
	now := events.At(w.now)
	key := a.Find(w.state, now)
	id := w.id()
	answer, list := a.Decide(w.state, key, id, now)
	out := outcome{id: id, answer: &answer, events: list}
	if answer.Allowed {
		key.Take(now)
	}
	return out
}

// check compares an outcome with what is expected.
func (w *world) check(out outcome, want Then) {
	w.t.Helper()
	code := events.OK
	switch {
	case out.err != nil:
		code = out.err.Code
	case out.answer != nil:
		code = out.answer.Code
	}
	if want.Code == "" {
		want.Code = events.OK
	}
	if code != want.Code {
		w.t.Fatalf("code %s (%v), want %s", code, out.err, want.Code)
	}
	var types []string
	for _, e := range out.events {
		types = append(types, e.Type)
	}
	if diff := cmp.Diff(want.Events, types); diff != "" {
		w.t.Fatalf("events (-want +got):\n%s", diff)
	}
	if want.Data != "" {
		w.members(out.events[len(out.events)-1].Data, want.Data)
	}
	if want.Details != "" {
		w.members(out.err.Details, want.Details)
	}
	if want.Answer != "" {
		w.members(out.answer, want.Answer)
	}
	if want.Reply != "" {
		b, err := (&ledger.Result{Data: ledger.Outcome(out.events)}).AppendJSON(nil)
		if err != nil {
			w.t.Fatal(err)
		}
		w.membersOf(b, want.Reply)
	}
}

// members compares the named members of v's JSON.
func (w *world) members(v any, want string) {
	w.t.Helper()
	b, err := events.Encode(v)
	if err != nil {
		w.t.Fatal(err)
	}
	w.membersOf(b, want)
}

// membersOf compares the named members of a JSON object.
func (w *world) membersOf(b []byte, want string) {
	w.t.Helper()
	var got, wanted map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		w.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(w.names.Replace(want)), &wanted); err != nil {
		w.t.Fatalf("%s: %v", want, err)
	}
	for name, value := range wanted {
		if diff := cmp.Diff(value, got[name]); diff != "" {
			w.t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// stored returns e as it comes back from the log.
func stored(t *testing.T, e *events.Event) *events.Event {
	t.Helper()
	c := events.NewWriter(nil)
	e.Code(c)
	out, r := new(events.Event), events.NewReader(c.Bytes())
	out.Code(r)
	if r.Err() != nil {
		t.Fatalf("stored form of %s: %v", e.Type, r.Err())
	}
	return out
}
