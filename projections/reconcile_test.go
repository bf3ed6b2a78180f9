package projections

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// TestKVReconciles: at the start only what differs is written.
func TestKVReconciles(t *testing.T) {
	k := newKVTest(t)
	k.create()
	m := newModel(k.history, newRandom(t))
	for range 50 {
		m.commit(10)
	}
	key, created := k.key("acme", events.Test)
	k.commit(k.account("acme"), created, k.granted("acme", "grant_1", 1000, 0, 1000))
	k.commit(k.debited("acme", key, 900, events.Draw{Grant: "grant_1", Amount: 100}))
	v := follow(t, k.tail)
	all := map[string]bool{}
	first := k.kv(v, k.tail)
	stop := run(t, first.Run)
	for range len(v.keys.byID) + len(v.balances.byID) {
		subject, _ := k.next()
		all[subject] = true
	}
	awaitDone(t, first, k.chain.Sequence)
	if len(all) != len(v.keys.byID)+len(v.balances.byID) {
		t.Fatalf("%d keys were written of %d", len(all), len(v.keys.byID)+len(v.balances.byID))
	}
	stop()
	k.check(v)

	want := k.spoil(key, v.keys.lists[m.accounts[0]])
	tail := k.again()
	v = follow(t, tail)
	again := k.kv(v, tail)
	run(t, again.Run)
	got := map[string]bool{}
	for range want {
		subject, value := k.next()
		if value == "DEL" {
			subject += " DEL"
		}
		got[subject] = true
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	awaitDone(t, again, k.chain.Sequence)
	k.quietNow()
	k.check(v)
}

// spoil does what may happen while nobody follows: acme's key is used, values change, one
// of the other keys goes missing, and there are some that never were. It returns what
// has to be written to mend it.
func (k *kvTest) spoil(key string, others []*keyRecord) []string {
	k.t.Helper()
	k.commit(k.account("beta"))
	used := k.debited("acme", key, 800, events.Draw{Grant: "grant_1", Amount: 100})
	used.Data.(*events.Debited).IP, used.Data.(*events.Debited).Product = "192.0.2.1", "payments"
	k.commit(used)
	kv, err := k.js.KeyValue(patience(k.t), store.BucketKeys)
	if err != nil {
		k.t.Fatal(err)
	}
	entry, err := kv.Get(patience(k.t), "acme.test."+key)
	if err != nil {
		k.t.Fatal(err)
	}
	value := string(entry.Value())
	changed, lost := kvName(others[len(others)-1]), kvName(others[0])
	k.put(store.BucketKeys, "nobody.live.key_1", `{}`)
	k.put(store.BucketKeys, "acme.live."+key, value)
	k.put(store.BucketKeys, "acme.test.another", value)
	k.put(store.BucketKeys, "one", `x`)
	k.put(store.BucketKeys, "one.two.three.four", `x`)
	k.put(store.BucketBalances, "acme.live.credits", `{"position":"0:1","balance":null}`)
	k.put(store.BucketKeys, changed, strings.Replace(value, "backend", "frontend", 1))
	want := []string{
		"$KV.KEYLEDGER_BALANCES.acme.live.credits DEL", "$KV.KEYLEDGER_BALANCES.acme.test.credits",
		"$KV.KEYLEDGER_KEYS." + changed, "$KV.KEYLEDGER_KEYS.acme.live." + key + " DEL",
		"$KV.KEYLEDGER_KEYS.acme.test.another DEL", "$KV.KEYLEDGER_KEYS.nobody.live.key_1 DEL",
		"$KV.KEYLEDGER_KEYS.one DEL", "$KV.KEYLEDGER_KEYS.one.two.three.four DEL",
	}
	if lost != changed {
		if err := kv.Delete(patience(k.t), lost); err != nil {
			k.t.Fatal(err)
		}
		k.next()
		want = append(want, "$KV.KEYLEDGER_KEYS."+lost)
	}
	return want
}

func kvName(r *keyRecord) string {
	return r.value.Account + "." + r.value.Environment + "." + r.id
}

// TestKVChangeDuringReconcile: what changes after it was compared and before the log is
// followed is written all the same.
func TestKVChangeDuringReconcile(t *testing.T) {
	k := newKVTest(t)
	k.create()
	k.commit(k.account("acme"))
	var names []string
	var created []events.Event
	for range 3 {
		id, e := k.key("acme", events.Test)
		names, created = append(names, "acme.test."+id), append(created, e)
	}
	k.commit(created...)
	v := follow(t, k.tail)
	first := k.kv(v, k.tail)
	stop := run(t, first.Run)
	awaitDone(t, first, k.chain.Sequence)
	stop()
	for range names {
		k.next()
	}
	// Two of the keys differ and stand last in the stream. The second has to wait for
	// the first to be written, when the third has long been compared.
	k.put(store.BucketKeys, names[0], `{}`)
	k.put(store.BucketKeys, names[1], `{}`)
	kv := k.kv(v, k.tail)
	keys := kv.buckets[0]
	keys.dirtyMax = 1
	clock := newClock(t, keys)
	run(t, kv.Run)
	<-clock.asked
	c := k.commit(changed(created[2], "key.disabled", func(k *events.Key) { k.Status = events.Disabled }))
	wait(t, v, c.Sequence)
	clock.tick <- time.Time{}
	clock.pump(t, keys, c.Sequence)
	k.check(v)
}

// TestKVStreamIsMadeAgain: a bucket that was deleted comes back whole: when there is
// something to write to it, or when it is next looked for.
func TestKVStreamIsMadeAgain(t *testing.T) {
	k := newKVTest(t)
	m := newModel(k.history, newRandom(t))
	for range 20 {
		m.commit(10)
	}
	v := follow(t, k.tail)
	kv := k.kv(v, k.tail)
	checked, check := make(chan struct{}), make(chan time.Time)
	kv.buckets[0].check = func(time.Duration) <-chan time.Time {
		select {
		case checked <- struct{}{}:
		case <-t.Context().Done():
		}
		return check
	}
	kv.buckets[1].check = func(time.Duration) <-chan time.Time { return nil } // does not look
	run(t, kv.Run)
	<-checked
	awaitDone(t, kv, k.chain.Sequence)
	for _, config := range k.configs {
		if err := k.js.DeleteStream(patience(t), config.Name); err != nil {
			t.Fatal(err)
		}
	}
	check <- time.Time{}
	<-checked // made again, and looked at again
	c := k.commit(k.account("acme"), k.granted("acme", "grant_1", 10, 0, 10))
	awaitDone(t, kv, c.Sequence)
	k.check(v)
}

// TestKVWholeAllowance: that the periods of an allowance go by of which nothing was spent
// is no reason to write it again.
func TestKVWholeAllowance(t *testing.T) {
	k := newKVTest(t)
	k.create()
	k.commit(k.account("acme"))
	k.commit(k.planned("acme", k.now+10)...)
	v := follow(t, k.tail)
	_, value := k.once(v)
	k.now += dayMillis
	k.commit()
	wait(t, v, k.chain.Sequence)
	kv := k.kv(v, k.tail)
	stop := run(t, kv.Run)
	awaitDone(t, kv, k.chain.Sequence)
	k.quietNow()
	stop()
	// One that the log never told of is.
	reset := (k.now + 2*dayMillis).String()
	k.put(store.BucketBalances, "acme.test.credits", value[:strings.LastIndex(value, `"resets_at":"`)]+`"resets_at":"`+reset+`"}}}`)
	run(t, k.kv(v, k.tail).Run)
	if _, got := k.next(); strings.Contains(got, reset) {
		t.Errorf("left as it was: %s", got)
	}
}

// TestKVValueOfAnotherHistory: a value from beyond the log's end is written again.
func TestKVValueOfAnotherHistory(t *testing.T) {
	k := newKVTest(t)
	k.create()
	k.commit(k.account("acme"), k.granted("acme", "grant_1", 10, 0, 10))
	v := follow(t, k.tail)
	_, value := k.once(v)
	k.put(store.BucketBalances, "acme.test.credits", strings.Replace(value, `"0:2"`, `"0:3"`, 1))
	run(t, k.kv(v, k.tail).Run)
	if _, got := k.next(); got != value {
		t.Errorf("written %s, want %s", got, value)
	}
}

// TestKVLeavesTheBucketOfAFailedView as it is.
func TestKVLeavesTheBucketOfAFailedView(t *testing.T) {
	k := newKVTest(t)
	k.create()
	key, created := k.key("acme", events.Test)
	k.commit(k.account("acme"), created)
	v := follow(t, k.tail)
	name, value := k.once(v)
	k.commit(k.granted("acme", "grant_1", 10, 0, 10))
	k.commit(k.debited("acme", "key_unknown", 9, events.Draw{Grant: "grant_1", Amount: 1}))
	k.put(store.BucketKeys, "acme.test."+key, `{"position":"0:1","key":null}`)
	wait(t, v, k.chain.Sequence)
	kv := k.kv(v, k.tail)
	run(t, kv.Run)
	if subject, _ := k.next(); subject != "$KV.KEYLEDGER_BALANCES.acme.test.credits" {
		t.Errorf("%s was written, after %s %s", subject, name, value)
	}
	k.commit(changed(created, "key.disabled", func(k *events.Key) { k.Status = events.Disabled }))
	awaitDone(t, kv, k.chain.Sequence)
	k.quietNow()
}

// TestKVAfterARebuild: a view that was made again is no trouble of a bucket, and trouble is
// over once the bucket is known to be like its view, although nothing had to be written.
func TestKVAfterARebuild(t *testing.T) {
	k := newKVTest(t)
	k.create()
	k.commit(k.account("acme"), k.granted("acme", "grant_1", 10, 0, 10))
	v := follow(t, k.tail)
	k.once(v)
	kv := k.kv(v, k.tail)
	begun := make(chan struct{}, 10)
	b := kv.buckets[1]
	b.check = func(time.Duration) <-chan time.Time {
		begun <- struct{}{}
		return nil
	}
	b.trouble(errors.New("from before"))
	run(t, kv.Run)
	again := func(what string) {
		t.Helper()
		select {
		case <-begun:
		case <-patience(t).Done():
			t.Fatal(what + ": the bucket is not reconciled")
		}
		awaitDone(t, kv, k.chain.Sequence)
		if got := kv.Status(); got.Failure != "" || got.LagCommits != 0 {
			t.Errorf("%s: status %+v", what, got)
		}
	}
	again("after trouble")
	rebuild(t, v.Runner, viewBalances)
	again("after a rebuild")
	rebuild(t, v.Runner, viewAccounts)
	again("after another")
	k.quietNow()
}
