package faults

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// owing is what the log says that one endpoint is owed: a fold of its own, which shares no
// code with package webhooks.
type owing struct {
	endpoint events.Endpoint // its newest state
	removed  time.Time       // zero: it stands
	list     []owed          // the n-th has the number n+1
	index    map[string]int  // by event id: where it stands in list
	paths    []string        // of its URLs
	keys     []signing       // all that ever signed
	replays  []replay
}

// owed is one event that an endpoint is owed.
type owed struct {
	id      string
	place   place
	at      time.Time         // of its commit
	group   string            // events of one group stay in order where the endpoint has that
	sum     [sha256.Size]byte // of the body
	skipped time.Time         // of the event that jumped over it; zero: none did
}

// place is a position that compares.
type place struct {
	commit uint64
	index  int
}

func (p place) compare(to place) int {
	return cmp.Or(cmp.Compare(p.commit, to.commit), cmp.Compare(p.index, to.index))
}

// placed reads a position; without an index it is the end of a commit.
func placed(text string) (place, error) {
	p, err := events.ParsePosition(text)
	if p.Index == events.NoIndex {
		p.Index = math.MaxInt
	}
	return place{p.Sequence, p.Index}, err
}

// signing is a key that signs from the event that made it until a time.
type signing struct {
	version string
	key     []byte    // the HMAC key, or the ed25519 seed
	until   time.Time // zero: still
}

// replay is what was asked to be sent again.
type replay struct {
	id    string
	asked time.Time
	sends map[string]*resent // by event id
}

// resent is one event that a replay sends.
type resent struct {
	place   place
	tries   int  // of one that was not owed
	came    bool // likewise: it was delivered, or tried for the last time
	skipped bool // it was jumped over after it was asked for
}

// opener opens what is sealed in an endpoint; events.Sealer has it.
type opener interface {
	Open(account, endpoint, field string, sealed []byte) ([]byte, error)
}

// foldOwed recomputes from the log alone who is owed what, by endpoint.
func foldOwed(commits []*store.Commit, seal opener) (map[string]*owing, error) {
	all := map[string]*owing{}
	var before []*events.CloudEvent
	for _, c := range commits {
		err := c.Each(func(e *events.CloudEvent) error {
			for _, o := range all {
				if err := o.see(e, before, seal); err != nil {
					return err
				}
			}
			before = append(before, e)
			d, ok := e.Data.(*events.Endpoint)
			if !ok || e.Type != "endpoint.registered" {
				return nil
			}
			o := &owing{endpoint: *d, index: map[string]int{}}
			all[d.ID] = o
			return o.take(e, d, seal)
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// see takes an event in: first whether it is owed, by the terms before it, then what it
// changes.
func (o *owing) see(e *events.CloudEvent, before []*events.CloudEvent, seal opener) error {
	if e.Account != o.endpoint.Account || !o.removed.IsZero() {
		return nil
	}
	d, change := e.Data.(*events.Endpoint)
	change = change && d.ID == o.endpoint.ID
	if change && d.Status == events.Removed {
		o.removed = e.Time.Std()
		return nil
	}
	if change && e.Type == "endpoint.tested" || owes(&o.endpoint, e) {
		if err := o.owe(e); err != nil {
			return err
		}
	}
	if r, ok := e.Data.(*events.Replay); ok && r.Endpoint == o.endpoint.ID {
		return o.replay(e, r, before)
	}
	if change {
		return o.take(e, d, seal)
	}
	return nil
}

func (o *owing) owe(e *events.CloudEvent) error {
	numbered := *e
	numbered.Sequence = fmt.Sprintf("%020d", len(o.list)+1)
	body, err := numbered.Structured()
	if err != nil {
		return err
	}
	o.index[e.ID.String()] = len(o.list)
	o.list = append(o.list, owed{
		id: e.ID.String(), place: place{e.Position.Sequence, e.Position.Index}, at: e.Time.Std(), group: e.PartitionKey(), sum: sha256.Sum256(body),
	})
	return nil
}

// take makes an endpoint's new state the one that holds from here on.
func (o *owing) take(e *events.CloudEvent, d *events.Endpoint, seal opener) error {
	o.endpoint = *d
	at, err := url.Parse(d.URL)
	if err != nil {
		return err
	}
	if !slices.Contains(o.paths, at.Path) {
		o.paths = append(o.paths, at.Path)
	}
	if d.SkipTo != "" {
		up := place{e.Position.Sequence, e.Position.Index}
		if d.SkipTo != "now" {
			to, err := placed(d.SkipTo)
			if err != nil {
				return err
			}
			up = slices.MinFunc([]place{up, to}, place.compare)
		}
		for i := range o.list {
			if w := &o.list[i]; w.skipped.IsZero() && w.place.compare(up) <= 0 {
				w.skipped = e.Time.Std()
			}
		}
		for _, r := range o.replays {
			for _, s := range r.sends {
				s.skipped = s.skipped || s.place.compare(up) <= 0
			}
		}
	}
	return o.sign(e.Time.Std(), seal)
}

// sign notes which keys the state has, and that those it has no more ended at a time.
func (o *owing) sign(now time.Time, seal opener) error {
	d := &o.endpoint
	has := []signing{{version: d.Signing}}
	sealed := [][]byte{d.SealedSecret}
	for _, f := range d.Former {
		has, sealed = append(has, signing{version: f.Signing, until: f.Until.Std()}), append(sealed, f.Sealed)
	}
	for i := range has {
		var err error
		if has[i].key, err = seal.Open(d.Account, d.ID, "secret", sealed[i]); err != nil {
			return err
		}
	}
	for _, k := range o.keys {
		if slices.ContainsFunc(has, func(s signing) bool { return bytes.Equal(s.key, k.key) }) {
			continue
		}
		if k.until.IsZero() || k.until.After(now) {
			k.until = now
		}
		has = append(has, k)
	}
	o.keys = has
	return nil
}

// replay notes which of the events before it a replay sends.
func (o *owing) replay(e *events.CloudEvent, d *events.Replay, before []*events.CloudEvent) error {
	var from place
	to := place{e.Position.Sequence, e.Position.Index - 1}
	if d.From != "" {
		p, err := events.ParsePosition(d.From) // without an index, from the whole commit on
		if err != nil {
			return err
		}
		from = place{p.Sequence, p.Index}
	}
	if d.To != "" {
		p, err := placed(d.To)
		if err != nil {
			return err
		}
		to = slices.MinFunc([]place{to, p}, place.compare)
	}
	terms := o.endpoint
	if len(d.Events) > 0 {
		terms = events.Endpoint{Account: terms.Account, Environment: terms.Environment, Events: d.Events}
	}
	r := replay{id: d.ID, asked: e.Time.Std(), sends: map[string]*resent{}}
	for _, old := range before {
		at := place{old.Position.Sequence, old.Position.Index}
		if at.compare(from) >= 0 && at.compare(to) <= 0 && old.Time >= d.FromTime && (d.ToTime == 0 || old.Time <= d.ToTime) && owes(&terms, old) {
			r.sends[old.ID.String()] = &resent{place: at}
		}
	}
	o.replays = append(o.replays, r)
	return nil
}

// owes says whether an event fits an endpoint's terms.
func owes(d *events.Endpoint, e *events.CloudEvent) bool {
	if e.Account != d.Account || e.Environment != "" && e.Environment != d.Environment || !named(d.Events, e.Type) {
		return false
	}
	if len(d.Keys) > 0 && !slices.Contains(d.Keys, events.KeyOf(&e.Event)) {
		return false
	}
	var filters []map[string]json.RawMessage
	if len(d.Filters) == 0 || json.Unmarshal(d.Filters, &filters) != nil || len(filters) == 0 {
		return true
	}
	body, err := e.Structured()
	attributes := map[string]any{}
	if err != nil || json.Unmarshal(body, &attributes) != nil {
		return false
	}
	for _, f := range filters {
		if !fits(f, attributes) {
			return false
		}
	}
	return true
}

// named says whether filters such as "credit.*" have a type of event.
func named(filters []string, name string) bool {
	return slices.ContainsFunc(filters, func(f string) bool {
		noun, all := strings.CutSuffix(f, "*")
		return f == name || all && strings.HasPrefix(name, noun)
	})
}

// fits reads a filter of CloudEvents Subscriptions anew for each event.
func fits(filter map[string]json.RawMessage, attributes map[string]any) bool {
	for dialect, text := range filter {
		var within []map[string]json.RawMessage
		var one map[string]json.RawMessage
		var compared map[string]string
		switch dialect {
		case "all", "any":
			if json.Unmarshal(text, &within) != nil {
				return false
			}
			// "all" unless one does not fit, "any" if one does.
			return (dialect == "any") == slices.ContainsFunc(within, func(f map[string]json.RawMessage) bool {
				return fits(f, attributes) == (dialect == "any")
			})
		case "not":
			return json.Unmarshal(text, &one) == nil && !fits(one, attributes)
		}
		if json.Unmarshal(text, &compared) != nil {
			return false
		}
		for name, want := range compared {
			got, ok := attributes[name].(string)
			if !ok || !map[string]func(string, string) bool{
				"exact": func(a, b string) bool { return a == b }, "prefix": strings.HasPrefix, "suffix": strings.HasSuffix,
			}[dialect](got, want) {
				return false
			}
		}
	}
	return true
}
