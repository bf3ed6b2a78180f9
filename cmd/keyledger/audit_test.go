package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// at is the time of the n-th commit of the test's log.
func at(n int) events.Time { return events.Time(1_767_225_600_000 + int64(n)*1000) } // 2026-01-01T00:00:00Z

// testLog has six commits: an epoch, two accounts in one commit, a grant, two debits by
// two keys in one entry each, another epoch, and a debit at the same time as that epoch.
func testLog(t *testing.T) *store.Memory {
	t.Helper()
	log := newWrittenLog(t)
	add := log.add
	entry := func(command, account string, list ...events.Event) store.Entry {
		return store.Entry{CommandID: ulid.ULID{1}, Command: command, Account: account, Actor: "operator", Outcome: events.OK, Events: list}
	}
	opened := func(account string) store.Entry {
		return entry("account.open", account, events.Event{Type: "account.opened", Account: account, Data: &events.Account{ID: account}})
	}
	debited := func(account, key string) store.Entry {
		return entry("authorize", account, events.Event{Type: "credit.debited", Account: account, Environment: events.Test, Subject: key,
			Data: &events.Debited{Debit: events.Debit{ID: "debit_1", Amount: 100, Key: key}}})
	}
	add(1, at(1))
	add(1, at(2), opened("acme"), opened("globex"))
	add(1, at(3), entry("credit.grant", "acme", events.Event{Type: "credit.granted", Account: "acme", Environment: events.Test,
		Data: &events.Granted{Grant: events.Grant{ID: "grant_1", Amount: 200}}}))
	add(1, at(3), debited("acme", "key_1"), entry("key.disable", "acme"), debited("globex", "key_2"))
	add(2, at(5))
	add(2, at(5), debited("acme", "key_1"))
	return &log.Memory
}

// writtenLog is a log that commits are written to.
type writtenLog struct {
	store.Memory
	t     *testing.T
	chain store.Chain
}

func newWrittenLog(t *testing.T) *writtenLog {
	return &writtenLog{t: t, chain: store.Chain{Partition: partition}}
}

func (l *writtenLog) add(epoch uint64, when events.Time, entries ...store.Entry) {
	l.t.Helper()
	c := &store.Commit{Partition: partition, Epoch: epoch, PrevSequence: l.chain.Sequence, PrevHash: l.chain.Hash,
		Ordinal: l.chain.Ordinal, Time: when, Entries: entries, Nonce: store.Nonce{byte(l.chain.Sequence + 1)}}
	var encoded []byte
	for i := range entries {
		encoded = store.AppendEntry(encoded, &entries[i])
	}
	data := c.Encode(encoded)
	if _, err := l.Append(l.t.Context(), data, l.chain.Sequence); err != nil {
		l.t.Fatal(err)
	}
	if _, err := l.chain.Check(c.Sequence, data); err != nil {
		l.t.Fatal(err)
	}
}

// TestReplayOfMoney: each account has its leg of a transfer, a key has the holds that are
// for it, and nothing that is hidden is printed.
func TestReplayOfMoney(t *testing.T) {
	log := newWrittenLog(t)
	event := func(account, eventType, subject string, data events.Data) events.Event {
		return events.Event{Type: eventType, Account: account, Environment: events.Test, Subject: subject, Data: data}
	}
	command := func(account string, list ...events.Event) store.Entry {
		return store.Entry{CommandID: ulid.ULID{1}, Account: account, Outcome: events.OK, Events: list}
	}
	key := &events.Key{ID: "key_1", Account: "acme"}
	for i := range key.Hash {
		key.Hash[i], key.OldHash[i] = 0xab, 0xcd
	}
	leg := &events.Transferred{Transfer: events.Transfer{From: "acme", To: "globex"}}
	held := &events.Held{Hold: events.Hold{ID: "hold_1", Key: "key_1"}, Capture: &events.Capture{Debit: "debit_1"}}
	log.add(1, at(1), command("acme", event("acme", "key.rotated", "key_1", key)),
		command("acme", event("acme", "credit.transferred", "", leg), event("globex", "credit.transferred", "", leg)))
	log.add(1, at(2), command("acme", event("acme", "hold.captured", "hold_1", held)),
		command("acme", event("acme", "hold.placed", "hold_2", &events.Held{Hold: events.Hold{ID: "hold_2"}})))
	for _, c := range []struct {
		flags replayFlags
		want  string // positions
	}{
		{replayFlags{account: "globex"}, "0:1.2"},
		{replayFlags{account: "acme", eventType: "credit.*"}, "0:1.1"},
		{replayFlags{key: "key_1"}, "0:1.0 0:2.0"},
		{replayFlags{key: "key_1", eventType: "hold.captured"}, "0:2.0"},
		{replayFlags{eventType: "hold.*"}, "0:2.0 0:2.1"},
	} {
		var got []string
		for _, line := range replayed(t, &log.Memory, false, c.flags) {
			got = append(got, line["position"].(string))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v: got %v, want %s", c.flags, got, c.want)
		}
	}
	for _, raw := range []bool{false, true} {
		text := strings.ToLower(fmt.Sprint(replayed(t, &log.Memory, raw, replayFlags{})))
		for _, trace := range []string{"abababab", "cdcdcdcd", "q6urq6ur", "zc3nzc3n", "171 171 171"} {
			if strings.Contains(text, trace) {
				t.Errorf("raw %t: a hash is printed: %s", raw, text)
			}
		}
	}
}

// replayed runs audit replay and returns its lines.
func replayed(t *testing.T, log store.Log, raw bool, f replayFlags) []map[string]any {
	t.Helper()
	if f.eventType == "" {
		f.eventType = "*"
	}
	filter, err := f.filter()
	if err != nil {
		t.Fatal(err)
	}
	last, err := log.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	a := &app{out: &out, errOut: new(bytes.Buffer)}
	if err := a.replay(t.Context(), log, last, filter, raw); err != nil {
		t.Fatal(err)
	}
	var lines []map[string]any
	for line := range strings.Lines(out.String()) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		lines = append(lines, object)
	}
	return lines
}

func TestReplayFilters(t *testing.T) {
	log := testLog(t)
	for _, c := range []struct {
		flags replayFlags
		want  string // positions
	}{
		{replayFlags{}, "0:2.0 0:2.1 0:3.0 0:4.0 0:4.1 0:6.0"},
		{replayFlags{account: "acme"}, "0:2.0 0:3.0 0:4.0 0:6.0"},
		{replayFlags{account: "nobody"}, ""},
		{replayFlags{key: "key_1"}, "0:4.0 0:6.0"},
		{replayFlags{eventType: "credit.*"}, "0:3.0 0:4.0 0:4.1 0:6.0"},
		{replayFlags{eventType: "credit.granted"}, "0:3.0"},
		{replayFlags{eventType: "credit.*", account: "globex"}, "0:4.1"},
		{replayFlags{fromPosition: "0:1"}, "0:2.0 0:2.1 0:3.0 0:4.0 0:4.1 0:6.0"},
		{replayFlags{fromPosition: "0:4"}, "0:4.0 0:4.1 0:6.0"},
		{replayFlags{fromPosition: "0:4.0"}, "0:4.0 0:4.1 0:6.0"},
		{replayFlags{fromPosition: "0:4.1"}, "0:4.1 0:6.0"},
		{replayFlags{fromPosition: "0:4.9"}, "0:6.0"},
		{replayFlags{fromPosition: "0:7"}, ""},
		{replayFlags{toPosition: "0:4"}, "0:2.0 0:2.1 0:3.0 0:4.0 0:4.1"},
		{replayFlags{toPosition: "0:4.0"}, "0:2.0 0:2.1 0:3.0 0:4.0"},
		{replayFlags{toPosition: "0:9.9"}, "0:2.0 0:2.1 0:3.0 0:4.0 0:4.1 0:6.0"},
		{replayFlags{fromPosition: "0:2.1", toPosition: "0:3.0"}, "0:2.1 0:3.0"},
		{replayFlags{fromPosition: "0:4.1", toPosition: "0:4.1"}, "0:4.1"},
		{replayFlags{fromPosition: "0:4", toPosition: "0:3"}, ""},
		{replayFlags{fromTime: at(3).String()}, "0:3.0 0:4.0 0:4.1 0:6.0"},
		{replayFlags{fromTime: (at(3) + 1).String()}, "0:6.0"},
		{replayFlags{fromTime: at(6).String()}, ""},
		{replayFlags{toTime: at(3).String()}, "0:2.0 0:2.1 0:3.0 0:4.0 0:4.1"},
		{replayFlags{toTime: (at(3) - 1).String()}, "0:2.0 0:2.1"},
		{replayFlags{toTime: at(0).String()}, ""},
		{replayFlags{fromTime: at(3).String(), toTime: at(4).String(), account: "acme"}, "0:3.0 0:4.0"},
		{replayFlags{fromTime: at(4).String(), toTime: at(4).String()}, ""},
		{replayFlags{fromTime: at(2).String(), fromPosition: "0:4.1"}, "0:4.1 0:6.0"},
	} {
		var got []string
		for _, line := range replayed(t, log, false, c.flags) {
			got = append(got, line["position"].(string))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v:\n got %s\nwant %s", c.flags, strings.Join(got, " "), c.want)
		}
	}
}

func TestReplayRaw(t *testing.T) {
	log := testLog(t)
	all := replayed(t, log, true, replayFlags{})
	if len(all) != 6 {
		t.Fatalf("%d commits, want 6", len(all))
	}
	if entries := all[0]["entries"].([]any); len(entries) != 0 || all[0]["epoch"] != 1.0 {
		t.Errorf("first commit: %v", all[0])
	}
	commit := all[3]
	for name, want := range map[string]any{
		"partition": 0.0, "sequence": 4.0, "epoch": 1.0, "previous_sequence": 3.0, "ordinal": 3.0, "time": "2026-01-01T00:00:03Z",
		"previous_hash": all[2]["hash"], "nonce": "04000000000000000000000000000000",
	} {
		if commit[name] != want {
			t.Errorf("%s: %v, want %v", name, commit[name], want)
		}
	}
	var got []string
	for _, e := range commit["entries"].([]any) {
		entry := e.(map[string]any)
		list := entry["events"].([]any)
		got = append(got, fmt.Sprint(entry["command"], " ", entry["account"], " ", len(list)))
		for _, event := range list {
			got = append(got, event.(map[string]any)["position"].(string))
		}
	}
	if want := "authorize acme 1,0:4.0,key.disable acme 0,authorize globex 1,0:4.1"; strings.Join(got, ",") != want {
		t.Errorf("entries: %v", got)
	}
	// With a filter: the commits, whole, that hold an event that fits.
	some := replayed(t, log, true, replayFlags{key: "key_2"})
	if len(some) != 1 || some[0]["sequence"] != 4.0 || len(some[0]["entries"].([]any)) != 3 {
		t.Errorf("commits with key_2: %v", some)
	}
}

func TestVerify(t *testing.T) {
	quiet := &progress{w: new(bytes.Buffer)}
	found, err := verify(t.Context(), testLog(t), 6, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if found.Commits != 6 || found.Events != 6 || found.Epochs != 2 || found.Position != "0:6" || found.Time != at(5) || found.Hash == (store.Hash{}) {
		t.Errorf("%+v", found)
	}

	flip := func(log *store.Memory, sequence uint64) {
		data, err := log.Get(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		log.Damage(sequence, data)
	}
	for name, c := range map[string]struct {
		damage func(*store.Memory)
		want   uint64
	}{
		"a flipped bit":        {func(log *store.Memory) { flip(log, 4) }, 4},
		"a missing message":    {func(log *store.Memory) { log.Damage(3, nil) }, 3},
		"the last one missing": {func(log *store.Memory) { log.Damage(6, nil) }, 6},
	} {
		t.Run(name, func(t *testing.T) {
			log := testLog(t)
			c.damage(log)
			_, err := verify(t.Context(), log, 6, quiet)
			var damage *store.DamageError
			if !errors.As(err, &damage) || damage.Sequence != c.want {
				t.Fatalf("error %v, want damage at %d", err, c.want)
			}
			var errOut bytes.Buffer
			a := &app{errOut: &errOut, json: true, started: true}
			if code := a.exit(nil, nil, err); code != exitFailed {
				t.Errorf("exit code %d", code)
			}
			if want := fmt.Sprintf(`"details":{"position":"0:%d"}`, c.want); !strings.Contains(errOut.String(), want) ||
				!strings.Contains(errOut.String(), `"code":"log_damaged"`) {
				t.Errorf("error for programs: %s", errOut.String())
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := verify(ctx, testLog(t), 6, quiet); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// TestReplayStopsAtDamage: what stands behind a bad position is not printed.
func TestReplayStopsAtDamage(t *testing.T) {
	log := testLog(t)
	log.Damage(3, nil)
	filter, err := (&replayFlags{eventType: "*"}).filter()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	a := &app{out: &out, errOut: new(bytes.Buffer)}
	err = a.replay(t.Context(), log, 6, filter, false)
	var damage *store.DamageError
	if !errors.As(err, &damage) || damage.Sequence != 3 {
		t.Errorf("error %v, want damage at 3", err)
	}
	if n := strings.Count(out.String(), "\n"); n != 2 {
		t.Errorf("%d events before the damage, want 2", n)
	}
	// A search by time that meets the damage says so too.
	filter.fromTime = at(3)
	if err := a.replay(t.Context(), log, 6, filter, false); !errors.Is(err, store.ErrNoMessage) {
		t.Errorf("search over damage: %v", err)
	}
}
