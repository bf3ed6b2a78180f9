package projections

import (
	"context"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// TestOwnProjections answer like ours: of accounts that are there, with a position, and one
// that panics takes nothing else with it.
func TestOwnProjections(t *testing.T) {
	h := newHistory(t)
	own := newFlaky(func(*store.Commit) error { return nil })
	own.Queries["flaky.panic"] = func(Projection, *Query) (any, *events.Error) { panic("no") }
	v := NewViews(h.tail, 0, quiet(), own)
	if err := v.Check(nil); err != nil {
		t.Fatal(err)
	}
	run(t, v.Run)
	h.commit(h.account("acme"), h.account("beta"))
	wait(t, v, h.chain.Sequence)
	for _, account := range []string{"acme", "_"} {
		if got := into[int](t, v, "flaky.count", account, ""); got != 2 {
			t.Errorf("flaky.count of %s: %d, want 2", account, got)
		}
	}
	refused(t, v, events.NotFound, "flaky.count", "nobody", "")
	refused(t, v, events.Unavailable, "flaky.panic", "acme", "")
	if differ := verify(t, v); len(differ) > 0 {
		t.Errorf("verify: %+v", differ)
	}
	rebuild(t, v.Runner, "flaky")
	if s := v.Status()[len(v.slots)-1]; s.Name != "flaky" || s.Version != 1 || s.Position != h.chain.Position().String() {
		t.Errorf("status: %+v", s)
	}
}

// TestCheckRegistrations: what is taken or cannot be is refused, and says what.
func TestCheckRegistrations(t *testing.T) {
	answer := func(Projection, *Query) (any, *events.Error) { return nil, nil }
	named := func(name string, verbs ...string) Registration {
		r := made(&fold{name: name})
		r.Queries = map[string]AnswerFunc{}
		for _, verb := range verbs {
			r.Queries[verb] = answer
		}
		return r
	}
	taken := map[string]bool{"feed": true, "ledger.status": true}
	for name, test := range map[string]struct {
		list []Registration
		want string // "" for fine
	}{
		"two":                 {[]Registration{named("one", "one.get"), named("two", "two.get", "two.list")}, ""},
		"the longest":         {[]Registration{named(strings.Repeat("n", 64), strings.Repeat("n", 64)+"."+strings.Repeat("v", 64))}, ""},
		"no name":             {[]Registration{named("")}, `projection "": a name has 1 to 64`},
		"a name too long":     {[]Registration{named(strings.Repeat("n", 65))}, "a name has 1 to 64"},
		"a name of ours":      {[]Registration{named("keys")}, `projection "keys": there is one of that name`},
		"the feed's name":     {[]Registration{named("feed")}, `projection "feed": there is one of that name`},
		"the same name twice": {[]Registration{named("one"), named("one")}, `projection "one": there is one of that name`},
		"a verb of ours":      {[]Registration{named("one", "key.get")}, `query verb "key.get" is taken`},
		"a verb of others":    {[]Registration{named("one", "ledger.status")}, `query verb "ledger.status" is taken`},
		"a verb twice":        {[]Registration{named("one", "a.b"), named("two", "a.b")}, `query verb "a.b" is taken`},
		"half a verb":         {[]Registration{named("one", "get")}, "must be <noun>.<verb>"},
		"too much of a verb":  {[]Registration{named("one", "one.get.it")}, "must be <noun>.<verb>"},
		"a verb too long":     {[]Registration{named("one", "a."+strings.Repeat("v", 65))}, "must be <noun>.<verb>"},
	} {
		err := NewViews(newHistory(t).tail, 0, quiet(), test.list...).Check(taken)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// TestOperatorsQueries are asked as "_", and say what is wrong with a question.
func TestOperatorsQueries(t *testing.T) {
	h := newHistory(t)
	v := follow(t, h.tail)
	h.commit(h.account("acme"))
	wait(t, v, h.chain.Sequence)
	table := v.Operator(v.Status, Check{"other", func(context.Context, func(done, total uint64)) (string, error) { return "it differs", nil }})
	asks := func(verb, account, body string) (Answer, *events.Error) {
		return table["projection."+verb](t.Context(), &Query{account, []byte(body)})
	}
	for _, verb := range []string{"list", "rebuild", "verify"} {
		for account, body := range map[string]string{"acme": "{}", "_": `{"nmae":1}`} {
			if _, err := asks(verb, account, body); err == nil || err.Code != events.InvalidArgument {
				t.Errorf("projection.%s of %s %s: %v", verb, account, body, err)
			}
		}
	}
	if _, err := asks("rebuild", "_", ""); err == nil || !strings.Contains(err.Message, "names must name a projection") {
		t.Errorf("rebuild of nothing: %v", err)
	}
	if got, err := asks("list", "_", ""); err != nil || got.Result.(projectionsResult).Work != nil || len(got.Result.(projectionsResult).Projections) != len(v.slots) {
		t.Errorf("list: %+v, %v", got, err)
	}
	if got, err := asks("verify", "_", ""); err != nil || got.Result.(workResult).Work.Kind != workVerify {
		t.Errorf("verify: %+v, %v", got, err)
	}
	workEnd(t, v.Runner)
	got, err := asks("list", "_", "")
	if err != nil || got.Position.Sequence != h.chain.Sequence {
		t.Fatalf("list: %+v, %v", got, err)
	}
	w := got.Result.(projectionsResult).Work
	if last := w.Findings[len(w.Findings)-1]; last.Name != "other" || last.Equal || last.Reason != "it differs" || last.Position != "0:2" {
		t.Errorf("findings: %+v", w.Findings)
	}
}
