package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// readPast reads the past from the whole log.
func readPast(tail *store.Tail) Past {
	return func(ctx context.Context, account string, to events.Position, each func(*store.Commit, int) error) error {
		return store.ReadChecked(ctx, tail.Log(), &store.Chain{}, to.Sequence, func(c *store.Commit) error {
			index := 0
			for e := range eventsOf(c) {
				if e.Account == account && (c.Sequence < to.Sequence || to.Index == events.NoIndex || index <= to.Index) {
					if err := each(c, index); err != nil {
						return err
					}
				}
				index++
			}
			return nil
		})
	}
}

// cut is a commit with its first events only, each in an entry of its own.
func cut(c *store.Commit, count int) *store.Commit {
	short := *c
	short.Entries = nil
	for e := range eventsOf(c) {
		if len(short.Entries) == count {
			break
		}
		short.Entries = append(short.Entries, store.Entry{Events: []events.Event{*e}})
	}
	return &short
}

// TestPastIsAReplayUpToThere: at random positions and times every key and balance is what
// new views have that took the log up to there and no further.
func TestPastIsAReplayUpToThere(t *testing.T) {
	random := newRandom(t)
	h := newHistory(t)
	m := newModel(h, random)
	commits := []*store.Commit{nil}
	first, err := h.tail.Commit(patience(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	commits = append(commits, first)
	for range 120 {
		commits = append(commits, m.commit(random.IntN(12)))
	}
	live := follow(t, h.tail)
	live.Past = readPast(h.again())
	for range 40 {
		last := 1 + random.IntN(len(commits)-1)
		count := commits[last].EventCount()
		at, position := fmt.Sprintf(`"at_position":"0:%d"`, last), fmt.Sprintf("0:%d", last)
		switch {
		case count > 0 && random.IntN(2) == 0:
			count = 1 + random.IntN(count)
			position = fmt.Sprintf("0:%d.%d", last, count-1)
			at = fmt.Sprintf(`"at_position":%q`, position)
		case random.IntN(2) == 0: // as late as it can be
			until := commits[last].Time + 1_000_000_000
			if last+1 < len(commits) {
				until = commits[last+1].Time - 1
			}
			at = fmt.Sprintf(`"at_time":%q`, until)
		}
		then := NewViews(h.tail, 0, quiet())
		for _, c := range commits[1:last] {
			then.apply(c)
		}
		then.apply(cut(commits[last], count))
		for _, account := range m.accounts {
			comparePast(t, live, then, account, at, position)
		}
	}
}

func comparePast(t *testing.T, live, then *Views, account, at, position string) {
	t.Helper()
	compare := func(verb, members string) {
		t.Helper()
		answer, err := live.Queries()[verb](context.Background(), &Query{Account: account, Body: []byte(`{` + members + `,` + at + `}`)})
		want, wantErr := ask(t, then, verb, account, `{`+members+`}`)
		if err != nil || wantErr != nil {
			if err == nil || wantErr == nil || err.Code != wantErr.Code {
				t.Errorf("%s of %s with %s: %v, a replay says %v", verb, account, at, err, wantErr)
			}
			return
		}
		got, encodeErr := events.Encode(answer.Result)
		if encodeErr != nil {
			t.Fatal(encodeErr)
		}
		if string(got) != want || answer.Position.String() != position {
			t.Errorf("%s of %s with %s, at %s:\n%s\na replay says\n%s", verb, account, at, answer.Position, got, want)
		}
	}
	for _, asset := range assets {
		compare("balance.get", fmt.Sprintf(`"environment":"test","asset":%q`, asset))
	}
	for _, r := range live.keys.lists[account] {
		compare("key.get", fmt.Sprintf(`"key":%q`, r.id))
	}
}

func TestPastRefuses(t *testing.T) {
	h := newHistory(t)
	v := follow(t, h.tail)
	v.Past = readPast(h.tail)
	h.commit(h.account("acme"), h.granted("acme", "grant_1", 100, 0, 100))
	wait(t, v, 2)
	for _, at := range []string{
		`"at_position":"0:3"`, `"at_position":"0:2.2"`, `"at_position":"0:1.0"`, `"at_position":"0:0"`, `"at_position":"1:2"`, `"at_position":"2"`,
		`"at_position":"0:2","at_time":"2027-01-15T08:00:00Z"`, `"at_time":"yesterday"`,
	} {
		refused(t, v, events.InvalidArgument, "balance.get", "acme", `{"environment":"test",`+at+`}`)
	}
	before := events.Time(h.now - 10).String()
	for _, at := range []string{`"at_position":"0:1"`, `"at_time":"` + before + `"`, `"at_time":"1970-01-01T00:00:01Z"`} {
		_, err := ask(t, v, "balance.get", "acme", `{"environment":"test",`+at+`}`)
		if err == nil || err.Code != events.NotFound || !strings.HasPrefix(err.Message, "there is no account acme at 0:") {
			t.Errorf("%s: %v", at, err)
		}
	}
	if _, err := ask(t, v, "balance.get", "nobody", `{"environment":"test"}`); err == nil || err.Message != "there is no account nobody" {
		t.Errorf("now: %v", err)
	}
	if got := into[struct{ Balance Balance }](t, v, "balance.get", "acme", `{"environment":"test","at_position":"0:2.0"}`).Balance; got.Posted != 0 {
		t.Errorf("before the grant there were %d", got.Posted)
	}
	for failed, code := range map[error]events.Code{errors.New("the disk is gone"): events.Unavailable, nil: events.OK} {
		v.Past = func(context.Context, string, events.Position, func(*store.Commit, int) error) error { return failed }
		if code == events.OK { // nothing was found of the account
			code = events.NotFound
		}
		refused(t, v, code, "balance.get", "acme", `{"environment":"test","at_position":"0:2"}`)
	}
}

// TestPastLimit: the most events that one question folds are folded, and one more is refused.
func TestPastLimit(t *testing.T) {
	h := newHistory(t)
	v := follow(t, h.tail)
	list := slices.Repeat([]events.Event{h.account("acme")}, 2)
	c := h.commit(list...)
	wait(t, v, 2)
	for _, more := range []int{0, 1} {
		v.Past = func(_ context.Context, _ string, _ events.Position, each func(*store.Commit, int) error) error {
			for range maxPastEvents + more {
				if err := each(c, 0); err != nil {
					return err
				}
			}
			return nil
		}
		if more == 0 {
			into[struct{}](t, v, "balance.get", "acme", `{"environment":"test","at_position":"0:2"}`)
			continue
		}
		refused(t, v, events.LimitExceeded, "balance.get", "acme", `{"environment":"test","at_position":"0:2"}`)
	}
}
