package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// kvTest is a KV on a nats-server, and all that is published to its buckets.
type kvTest struct {
	*history
	server  *natsserver.Server
	js      jetstream.JetStream
	configs []jetstream.StreamConfig
	writes  *nats.Subscription
}

func newKVTest(t *testing.T) *kvTest {
	k := &kvTest{history: newHistory(t), configs: streams(t, "KV_"+store.BucketKeys, "KV_"+store.BucketBalances)}
	var nc *nats.Conn
	k.server, nc, k.js = startNATS(t)
	var err error
	if k.writes, err = nc.SubscribeSync("$KV.>"); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return k
}

// create makes the streams of the buckets, and what a KV writes goes nowhere before.
func (k *kvTest) create() {
	k.t.Helper()
	if err := store.CreateStreams(patience(k.t), k.js, k.configs); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kvTest) kv(views *Views, tail *store.Tail) *KV {
	k.t.Helper()
	kv, err := NewKV(KVConfig{Conn: connect(k.t, k.server), Views: views, Tail: tail, Streams: k.configs, Logger: quiet()})
	if err != nil {
		k.t.Fatal(err)
	}
	return kv
}

// clock is time for a bucket: it waits for the test where it would wait for a pause to pass.
type clock struct {
	asked chan time.Duration
	tick  chan time.Time
}

func newClock(t *testing.T, b *bucket) *clock {
	c := &clock{make(chan time.Duration), make(chan time.Time)}
	b.after = func(d time.Duration) <-chan time.Time {
		select {
		case c.asked <- d:
		case <-t.Context().Done():
		}
		return c.tick
	}
	return c
}

// pump lets pauses pass until the bucket has all up to a sequence, and returns how many
// it let pass.
func (c *clock) pump(t *testing.T, b *bucket, sequence uint64) (ticks int) {
	t.Helper()
	for ctx := patience(t); b.sequence() < sequence; {
		select {
		case <-c.asked:
			c.tick <- time.Time{}
			ticks++
		case <-ctx.Done():
			_, failure := b.place()
			t.Fatalf("the bucket did not reach %d: %s", sequence, failure)
		default:
		}
	}
	return ticks
}

// next returns the next write: the key with its bucket, and what was written.
func (k *kvTest) next() (string, string) {
	k.t.Helper()
	msg, err := k.writes.NextMsgWithContext(patience(k.t))
	if err != nil {
		k.t.Fatal(err)
	}
	if op := msg.Header.Get("KV-Operation"); op != "" {
		return msg.Subject, op
	}
	return msg.Subject, string(msg.Data)
}

// once runs a KV until all is stored, which is one value, and returns that.
func (k *kvTest) once(v *Views) (string, string) {
	k.t.Helper()
	kv := k.kv(v, k.tail)
	stop := run(k.t, kv.Run)
	awaitDone(k.t, kv, k.chain.Sequence)
	stop()
	return k.next()
}

// written returns the writes up to now that were not asked for yet. The server hands
// messages on in the order it got them, so what was written before this call comes
// before the answer to its request.
func (k *kvTest) written() (out []*nats.Msg) {
	k.t.Helper()
	if _, err := k.js.AccountInfo(patience(k.t)); err != nil {
		k.t.Fatal(err)
	}
	for {
		msg, err := k.writes.NextMsg(time.Millisecond)
		if errors.Is(err, nats.ErrTimeout) {
			return out
		}
		if err != nil {
			k.t.Fatal(err)
		}
		out = append(out, msg)
	}
}

// quietNow checks that nothing more was written.
func (k *kvTest) quietNow() {
	k.t.Helper()
	for _, msg := range k.written() {
		k.t.Errorf("written although it should not be: %s %s", msg.Subject, msg.Data)
	}
}

// put writes to a bucket as somebody else.
func (k *kvTest) put(bucket, key, value string) {
	k.t.Helper()
	if _, err := k.js.Publish(patience(k.t), "$KV."+bucket+"."+key, []byte(value)); err != nil {
		k.t.Fatal(err)
	}
	k.next()
}

// check compares what the buckets hold with the views.
func (k *kvTest) check(v *Views) {
	k.t.Helper()
	got, want := map[string]any{}, map[string]any{}
	for _, bucket := range []string{store.BucketKeys, store.BucketBalances} {
		kv, err := k.js.KeyValue(patience(k.t), bucket)
		if err != nil {
			k.t.Fatal(err)
		}
		keys, err := kv.Keys(patience(k.t))
		if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
			k.t.Fatal(err)
		}
		for _, key := range keys {
			entry, err := kv.Get(patience(k.t), key)
			if err != nil {
				k.t.Fatal(err)
			}
			got[bucket+" "+key] = k.object(entry.Value())
		}
	}
	for _, r := range v.accounts.lists[ledgerItself] {
		for _, key := range v.keys.lists[r.id] {
			answer, err := ask(k.t, v, "key.get", r.id, fmt.Sprintf(`{"key":%q}`, key.id))
			if err != nil {
				k.t.Fatal(err)
			}
			want[fmt.Sprintf("%s %s.%s.%s", store.BucketKeys, r.id, key.value.Environment, key.id)] = k.object([]byte(answer))
		}
		for _, id := range v.balances.accounts[r.id] {
			answer, err := ask(k.t, v, "balance.get", r.id, fmt.Sprintf(`{"environment":%q,"asset":%q}`, id.environment, id.asset))
			if err != nil {
				k.t.Fatal(err)
			}
			want[fmt.Sprintf("%s %s.%s.%s", store.BucketBalances, r.id, id.environment, id.asset)] = k.object([]byte(answer))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		k.t.Errorf("buckets (-views +buckets):\n%s", diff)
	}
}

// object decodes a value or an answer without what may differ between them.
func (k *kvTest) object(data []byte) map[string]any {
	k.t.Helper()
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		k.t.Fatalf("%v in %s", err, data)
	}
	delete(out, "position")
	if key, ok := out["key"].(map[string]any); ok {
		for _, name := range []string{"last_used_at", "last_used_ip", "last_used_product"} {
			delete(key, name)
		}
	}
	if balance, ok := out["balance"].(map[string]any); ok {
		if a := balance["allowance"].(map[string]any); a["remaining"] == a["amount"] {
			delete(a, "resets_at")
		}
	}
	return out
}

// awaitDone returns when the buckets have all up to a sequence.
func awaitDone(t testing.TB, kv *KV, sequence uint64) {
	t.Helper()
	for _, b := range kv.buckets {
		for ctx := patience(t); b.sequence() < sequence; {
			if ctx.Err() != nil {
				t.Fatalf("bucket %s did not reach %d: %+v", b.name, sequence, kv.Status())
			}
		}
	}
}

func TestKVFollowsTheViews(t *testing.T) {
	k := newKVTest(t)
	v := follow(t, k.tail)
	m := newModel(k.history, newRandom(t))
	for range 100 {
		m.commit(10)
	}
	kv := k.kv(v, k.tail)
	for _, b := range kv.buckets {
		b.after = func(time.Duration) <-chan time.Time { return time.After(0) }
	}
	run(t, kv.Run)
	for range 100 {
		m.commit(10)
	}
	awaitDone(t, kv, k.chain.Sequence)
	k.check(v)
	if got, want := kv.Status(), (Status{Name: "kv", Position: k.chain.Position().String()}); got != want {
		t.Errorf("status %+v, want %+v", got, want)
	}
}

// positioned is a stored value's position and what it holds.
type positioned struct {
	Position string
	Key      *events.Key
	Balance  *Balance
}

func TestKVValues(t *testing.T) {
	k := newKVTest(t)
	v := follow(t, k.tail)
	kv := k.kv(v, k.tail)
	k.create()
	key, created := k.key("acme", events.Live)
	c := k.commit(k.account("acme"), created, k.granted("acme", "grant_1", 10, 0, 10))
	for _, b := range kv.buckets {
		if err := b.commit(patience(t), c); err != nil {
			t.Fatal(err)
		}
		if _, err := b.flush(patience(t)); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]string{}
	for range 2 {
		subject, value := k.next()
		got[subject] = value
	}
	for subject, verb := range map[string]string{
		"$KV.KEYLEDGER_KEYS.acme.live." + key:      "key.get",
		"$KV.KEYLEDGER_BALANCES.acme.test.credits": "balance.get",
	} {
		body := `{"environment":"test"}`
		if verb == "key.get" {
			body = fmt.Sprintf(`{"key":%q}`, key)
		}
		answer, err := ask(t, v, verb, "acme", body)
		if err != nil {
			t.Fatal(err)
		}
		if want := `{"position":"0:2",` + strings.TrimPrefix(answer, "{"); got[subject] != want {
			t.Errorf("%s is %s, want %s", subject, got[subject], want)
		}
	}
}

// TestKVCoalesces: however often a balance changes between two writes, it is written
// once, and what is written is the newest.
func TestKVCoalesces(t *testing.T) {
	k := newKVTest(t)
	v := follow(t, k.tail)
	b := k.kv(v, k.tail).buckets[1]
	k.create()
	ctx := patience(t)
	key, created := k.key("acme", events.Test)
	k.commit(k.account("acme"), created, k.granted("acme", "grant_1", 1000, 0, 1000))
	for posted := int64(999); posted >= 0; posted-- {
		c := k.commit(k.debited("acme", key, posted, events.Draw{Grant: "grant_1", Amount: 1}))
		if err := b.commit(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.dirty) != 1 {
		t.Errorf("%d keys are marked, not 1", len(b.dirty))
	}
	if _, err := b.flush(ctx); err != nil {
		t.Fatal(err)
	}
	subject, value := k.next()
	var got positioned
	if err := json.Unmarshal([]byte(value), &got); err != nil {
		t.Fatal(err)
	}
	if got.Position != "0:1002" || got.Balance.Posted != 0 || len(got.Balance.Grants) != 0 {
		t.Errorf("%s is %s", subject, value)
	}
	k.quietNow()
}

// TestKVPace: nothing is written before the pause of 100 ms has passed, and one pass of
// it lets each key be written once.
func TestKVPace(t *testing.T) {
	k := newKVTest(t)
	v := follow(t, k.tail)
	kv := k.kv(v, k.tail)
	k.commit(k.account("acme"), k.granted("acme", "grant_1", 1000, 0, 1000))
	clock := newClock(t, kv.buckets[1])
	run(t, kv.Run)
	posted, ticks := int64(1000), 0
	var writes []*nats.Msg
	for range 5 {
		if d := <-clock.asked; d != 100*time.Millisecond {
			t.Fatalf("the pause is %s", d)
		}
		for range 20 {
			posted--
			k.commit(k.debited("acme", "", posted, events.Draw{Grant: "grant_1", Amount: 1}))
		}
		wait(t, v, k.chain.Sequence)
		if writes = append(writes, k.written()...); len(writes) > ticks {
			t.Fatalf("%d writes in %d pauses", len(writes), ticks)
		}
		clock.tick <- time.Time{}
		ticks++
	}
	ticks += clock.pump(t, kv.buckets[1], k.chain.Sequence)
	if writes = append(writes, k.written()...); len(writes) > ticks || len(writes) < 2 {
		t.Fatalf("%d writes in %d pauses", len(writes), ticks)
	}
	var got positioned
	if err := json.Unmarshal(writes[len(writes)-1].Data, &got); err != nil {
		t.Fatal(err)
	}
	if want := k.chain.Position(); got.Position != want.String() || got.Balance.Posted != posted {
		t.Errorf("last written at %s with %d, the view is at %s with %d", got.Position, got.Balance.Posted, want.String(), posted)
	}
}

// TestKVRate: the more was written, the longer is the pause after it.
func TestKVRate(t *testing.T) {
	k := newKVTest(t)
	v := follow(t, k.tail)
	kv := k.kv(v, k.tail)
	clock := newClock(t, kv.buckets[0])
	list := []events.Event{k.account("acme")}
	for range 300 {
		_, e := k.key("acme", events.Test)
		list = append(list, e)
	}
	k.commit(list...)
	run(t, kv.Run)
	if d := <-clock.asked; d != kvPause {
		t.Errorf("the first pause is %s", d)
	}
	clock.tick <- time.Time{}
	_, e := k.key("acme", events.Test)
	k.commit(e) // written with the others or after the next pause
	if d := <-clock.asked; d != 300*time.Millisecond && d != 301*time.Millisecond {
		t.Errorf("the pause after 300 writes is %s", d)
	}
}

// TestKVBoundsWhatWaits: what does not fit among the marked keys waits.
func TestKVBoundsWhatWaits(t *testing.T) {
	k := newKVTest(t)
	k.create()
	v := follow(t, k.tail)
	b := k.kv(v, k.tail).buckets[0]
	b.dirtyMax = 10
	var list []events.Event
	for range 10 {
		_, e := k.key("acme", events.Test)
		list = append(list, e)
	}
	c := k.commit(list...)
	if err := b.commit(patience(t), c); err != nil {
		t.Fatal(err)
	}
	_, e := k.key("acme", events.Test)
	c = k.commit(e)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := b.commit(ended, c); !errors.Is(err, context.Canceled) {
		t.Fatalf("the eleventh key did not wait: %v", err)
	}
	if _, err := b.flush(patience(t)); err != nil {
		t.Fatal(err)
	}
	if len(b.space) != 1 {
		t.Error("who waits is not told that there is space")
	}
	if err := b.commit(patience(t), c); err != nil {
		t.Fatal(err)
	}
	if len(b.dirty) != 1 {
		t.Errorf("%d keys are marked, want 1", len(b.dirty))
	}
}

// TestKVDoneIsWritten: a commit that changes nothing does not count as written while what
// came before it is still being written.
func TestKVDoneIsWritten(t *testing.T) {
	k := newKVTest(t)
	k.create()
	v := follow(t, k.tail)
	b := k.kv(v, k.tail).buckets[1]
	b.writing = true // as while a flush has taken what was marked
	if err := b.commit(patience(t), k.commit()); err != nil {
		t.Fatal(err)
	}
	if got := b.sequence(); got != 0 {
		t.Errorf("written up to %d, although nothing is yet", got)
	}
	if _, err := b.flush(patience(t)); err != nil {
		t.Fatal(err)
	}
	if got := b.sequence(); got != k.chain.Sequence {
		t.Errorf("written up to %d, not %d", got, k.chain.Sequence)
	}
}

// TestKVFullBucket: what the server refuses is written when it can be, with nothing lost
// and no second comparison of all there is. The other bucket goes on.
func TestKVFullBucket(t *testing.T) {
	k := newKVTest(t)
	v := follow(t, k.tail)
	full := slices.Clone(k.configs)
	full[0].MaxBytes = 2000
	if err := store.CreateStreams(patience(t), k.js, full); err != nil {
		t.Fatal(err)
	}
	kv := k.kv(v, k.tail)
	keys, balances := kv.buckets[0], kv.buckets[1]
	clock := newClock(t, keys)
	run(t, kv.Run)
	list := []events.Event{k.account("acme"), k.granted("acme", "grant_1", 10, 0, 10)}
	for range 20 {
		_, e := k.key("acme", events.Test)
		list = append(list, e)
	}
	k.commit(list...)
	<-clock.asked
	clock.tick <- time.Time{}
	if d := <-clock.asked; d != kvRefused {
		t.Fatalf("the pause after a refusal is %s", d)
	}
	if got := kv.Status(); !strings.Contains(got.Failure, "KEYLEDGER_KEYS: ") ||
		!strings.Contains(got.Failure, "maximum bytes exceeded") || got.LagCommits == 0 {
		t.Errorf("status %+v", got)
	}
	for ctx := patience(t); balances.sequence() < k.chain.Sequence; {
		if ctx.Err() != nil {
			t.Fatal("the other bucket does not go on")
		}
	}
	if _, err := k.js.UpdateStream(patience(t), k.configs[0]); err != nil {
		t.Fatal(err)
	}
	clock.tick <- time.Time{}
	clock.pump(t, keys, k.chain.Sequence)
	k.check(v)
	if got := kv.Status(); got.Failure != "" {
		t.Errorf("status %+v", got)
	}
}
