package projections

import (
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// TestVerifyFindsAWrongBucket: a value that differs, is missing or should not be there is
// found, one that is just about to be written is not; and when the view is made again, the
// bucket is put right.
func TestVerifyFindsAWrongBucket(t *testing.T) {
	k := newKVTest(t)
	k.create()
	m := newModel(k.history, newRandom(t))
	for range 30 {
		m.commit(10)
	}
	key, created := k.key("acme", events.Test)
	k.commit(k.account("acme"), created, k.granted("acme", "grant_1", 1000, 0, 1000))
	v := follow(t, k.tail)
	kv := k.kv(v, k.tail)
	run(t, kv.Run)
	awaitDone(t, kv, k.chain.Sequence)
	for range 10 {
		m.commit(10) // it is being written
	}
	wait(t, v, k.chain.Sequence)
	if differ := verify(t, v, kv.Checks()...); len(differ) > 0 {
		t.Errorf("nothing is wrong: %+v", differ)
	}
	buckets, err := k.js.KeyValue(patience(t), store.BucketKeys)
	if err != nil {
		t.Fatal(err)
	}
	name := "acme.test." + key
	for what, spoil := range map[string]func(){
		name:                  func() { k.put(store.BucketKeys, name, `{"position":"0:1","key":null}`) },
		name + " ":            func() { _ = buckets.Delete(patience(t), name) },
		"nobody.live.key_1":   func() { k.put(store.BucketKeys, "nobody.live.key_1", `{}`) },
		"acme.live.credits":   func() { k.put(store.BucketBalances, "acme.live.credits", `{"position":"0:1","balance":null}`) },
		"one.two.three.four":  func() { k.put(store.BucketKeys, "one.two.three.four", `x`) },
		"acme.test.something": func() { k.put(store.BucketBalances, "acme.test.something", `x`) },
	} {
		spoil()
		differ := verify(t, v, kv.Checks()...)
		if len(differ) != 1 {
			t.Fatalf("%s is wrong, found: %+v", what, differ)
		}
		for bucket, f := range differ {
			if !strings.Contains(f.Reason, "the value of "+strings.TrimSpace(what)+" is not the view's") {
				t.Errorf("%s: %+v", bucket, f)
			}
			view := map[string]string{store.BucketKeys: ViewKeys, store.BucketBalances: viewBalances}[bucket]
			rebuild(t, v.Runner, view)
		}
		for ctx := patience(t); len(verify(t, v, kv.Checks()...)) > 0; {
			if ctx.Err() != nil {
				t.Fatalf("%s: the bucket is not put right", what)
			}
		}
	}
	k.check(v)
}
