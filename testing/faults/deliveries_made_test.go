package faults

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/webhooks"
)

// made is a history made by hand: a log with an event a commit, every ten seconds, and
// what receivers would have got.
type made struct {
	t       *testing.T
	sealer  *events.Sealer
	commits []*store.Commit
	h       *deliveries
}

const (
	madeTries = 3
	madeKey   = "key_1"
)

var madeBegin = time.UnixMilli(1_700_000_000_000)

// commit adds an event. The first has the sequence 1.
func (m *made) commit(e events.Event) {
	n := uint64(len(m.commits) + 1)
	c := &store.Commit{Sequence: n, PrevSequence: n - 1, Ordinal: n - 1, Time: events.At(madeBegin.Add(time.Duration(n) * 10 * time.Second))}
	c.Nonce[0] = byte(n)
	c.Entries = []store.Entry{{CommandID: ulid.ULID{byte(n)}, Account: e.Account, Command: "test", Outcome: events.OK, Events: []events.Event{e}}}
	m.commits = append(m.commits, c)
}

func (m *made) debit(key string) {
	m.commit(events.Event{Type: "credit.debited", Account: "acme", Environment: events.Test, Subject: key, Data: &events.Debited{Debit: events.Debit{ID: "debit_1", Key: key, Drawn: []events.Draw{}}}})
}

// endpoint adds what an endpoint has come to.
func (m *made) endpoint(verb string, e events.Endpoint, secret byte) {
	e.Account, e.Environment, e.URL = "acme", events.Test, "http://127.0.0.1/"+e.ID
	e.SealedSecret = m.sealer.Seal("acme", e.ID, "secret", bytes.Repeat([]byte{secret}, 32))
	for i := range e.Former {
		e.Former[i].Sealed = m.sealer.Seal("acme", e.ID, "secret", bytes.Repeat([]byte{secret - 1 - byte(i)}, 32))
	}
	m.commit(events.Event{Type: "endpoint." + verb, Account: "acme", Environment: events.Test, Subject: e.ID, Data: &e})
}

func newMade(t *testing.T) *made {
	t.Helper()
	sealer, err := events.NewSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return &made{t: t, sealer: sealer}
}

// history is a history in which all is well. It has something of everything: an endpoint
// "all" whose secret is rotated at once, "some" that jumps and has a replay, "gone" that is
// removed, and a kill.
func history(t *testing.T) *made {
	t.Helper()
	m := newMade(t)
	all := events.Endpoint{ID: "all", Events: []string{"*"}, Ordering: "key", Status: events.Active, Signing: "v1"}
	some := events.Endpoint{ID: "some", Events: []string{"credit.*"}, Status: events.Active, Signing: "v1a"}
	gone := events.Endpoint{ID: "gone", Events: []string{"credit.*"}, Status: events.Active, Signing: "v1"}
	m.commit(events.Event{Type: "account.opened", Account: "acme", Data: &events.Account{ID: "acme"}})
	m.endpoint("registered", all, 1)
	m.endpoint("registered", some, 11)
	for _, key := range []string{madeKey, madeKey, "key_2"} {
		m.debit(key) // 4, 5, 6
	}
	m.endpoint("secret_rotated", all, 2) // 7
	m.debit(madeKey)                     // 8
	jump := some
	jump.SkipTo = "0:8"
	m.endpoint("updated", jump, 11) // 9
	m.debit("key_2")                // 10
	m.endpoint("registered", gone, 21)
	m.debit(madeKey) // 12
	gone.Status = events.Removed
	m.endpoint("removed", gone, 21)
	m.debit(madeKey) // 14
	m.commit(events.Event{Type: "endpoint.replayed", Account: "acme", Environment: events.Test, Subject: "some",
		Data: &events.Replay{ID: "replay_1", Endpoint: "some", Account: "acme", Environment: events.Test, From: "0:3", To: "0:4", Events: []string{"*"}}})
	m.deliver()
	return m
}

// deliver makes what came, and what is listed.
func (m *made) deliver() {
	owing, err := foldOwed(m.commits, m.sealer)
	if err != nil {
		m.t.Fatal(err)
	}
	m.h = &deliveries{owing: owing, lists: map[string]listing{}, tries: madeTries, within: time.Second, notice: time.Second}
	second := time.Second
	for _, c := range m.commits[1:] {
		for _, id := range []string{"all", "some", "gone"} {
			switch n := c.Sequence; {
			case m.owed(id, n) == nil:
			case id == "some" && n == 8: // jumped over
			case id == "all" && n >= 14: // pending
			case id == "some" && n == 14: // dead
				for try := range madeTries {
					m.send(id, n, time.Duration(1+try)*second, 500)
				}
			default:
				m.send(id, n, second, 200)
			}
		}
		if c.Sequence == 13 {
			m.h.kills = []time.Time{c.Time.Std().Add(second + second/2)}
			m.send("all", 13, 3*second, 200)
		}
	}
	m.send("some", 4, 12*10*second, 200) // the replay
	m.replayed("some", 3, 12*10*second)
	last := m.owed("all", 14)
	m.h.lists["all"] = listing{count: 2, pending: []row{{Event: last.id, Endpoint: "all", Sequence: m.number("all", 14)}}}
	last = m.owed("some", 14)
	m.h.lists["some"] = listing{dead: []row{{Event: last.id, Endpoint: "some", Sequence: m.number("some", 14)}}}
}

// owed is the event of a commit that an endpoint is owed, nil if it is not.
func (m *made) owed(id string, commit uint64) *owed {
	o := m.h.owing[id]
	i := slices.IndexFunc(o.list, func(w owed) bool { return w.place.commit == commit })
	if i < 0 {
		return nil
	}
	return &o.list[i]
}

func (m *made) number(id string, commit uint64) string {
	return fmt.Sprintf("%020d", m.h.owing[id].index[m.owed(id, commit).id]+1)
}

// body is the event of a commit with a number, or none, as it is sent.
func (m *made) body(commit uint64, number string) (id string, body []byte) {
	err := m.commits[commit-1].Each(func(e *events.CloudEvent) (err error) {
		e.Sequence = number
		id = e.ID.String()
		body, err = e.Structured()
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return id, body
}

// send adds a request, so long after its commit, and its record.
func (m *made) send(to string, commit uint64, after time.Duration, status int) *request {
	id, body := m.body(commit, m.number(to, commit))
	return m.add(to, commit, id, body, after, status)
}

// replayed adds what a replay sends of what was not owed.
func (m *made) replayed(to string, commit uint64, after time.Duration) *request {
	id, body := m.body(commit, "")
	body = []byte(strings.Replace(string(body), `{"specversion"`, `{"replay":"replay_1","specversion"`, 1))
	return m.add(to, commit, id, body, after, 200)
}

func (m *made) add(to string, commit uint64, id string, body []byte, after time.Duration, status int) *request {
	at := m.commits[commit-1].Time.Std().Add(after)
	m.h.requests = append(m.h.requests, request{path: "/" + to, id: id, body: body, at: at, answered: at.Add(100 * time.Millisecond), status: status})
	m.h.attempts = append(m.h.attempts, webhooks.Attempt{Event: id, Endpoint: to, StatusCode: &status})
	r := &m.h.requests[len(m.h.requests)-1]
	m.sign(r, m.secret(to, at))
	return r
}

// secret is the byte that an endpoint's secret is made of.
func (m *made) secret(to string, at time.Time) byte {
	if to == "all" && !at.Before(m.commits[6].Time.Std()) {
		return 2
	}
	return map[string]byte{"all": 1, "some": 11, "gone": 21}[to]
}

func (m *made) sign(r *request, secret byte) {
	key := bytes.Repeat([]byte{secret}, 32)
	r.timestamp = strconv.FormatInt(r.at.Unix(), 10)
	text := []byte(r.id + "." + r.timestamp + "." + string(r.body))
	mac := hmac.New(sha256.New, key)
	mac.Write(text)
	r.signature = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if r.path == "/some" {
		r.signature = "v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(ed25519.NewKeyFromSeed(key), text))
	}
}

// find is the first request of a commit's event to an endpoint.
func (m *made) find(to string, commit uint64) *request {
	id, _ := m.body(commit, "")
	i := slices.IndexFunc(m.h.requests, func(r request) bool { return r.path == "/"+to && r.id == id })
	return &m.h.requests[i]
}

// drop takes out the last request of a commit's event to an endpoint, and its record.
func (m *made) drop(to string, commit uint64) {
	id, _ := m.body(commit, "")
	for i := len(m.h.requests) - 1; i >= 0; i-- {
		if m.h.requests[i].path == "/"+to && m.h.requests[i].id == id {
			m.h.requests = slices.Delete(m.h.requests, i, i+1)
			break
		}
	}
	i := slices.IndexFunc(m.h.attempts, func(a webhooks.Attempt) bool { return a.Endpoint == to && a.Event == id })
	m.h.attempts = slices.Delete(m.h.attempts, i, i+1)
}
