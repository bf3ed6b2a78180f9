package writer

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/archive"
)

// Over random histories of two accounts, with everything that moves money in them, the
// statement of every balance is what a replay of the log tells. rapid prints the seed of a
// failure; -rapid.seed takes it back.
func TestStatementsAreTheLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &spender{t: t, f: run(t, new(store.Memory), newClock())}
		for _, account := range []string{"a", "b"} {
			w.f.must(account, "account.open", new(ledger.OpenAccount))
			w.f.must(account, "account.enable_environment", &ledger.EnableEnvironment{Environment: events.Live})
			plan := new(ledger.SetPlan)
			if err := events.DecodeStrict([]byte(`{"plan":{"name":"p","allowance":{"asset":"usd","amount":40,"every":"day"},
				"overdraft":{"credits":30},"par":[["usd","eur"]]}}`), plan); err != nil {
				t.Fatal(err)
			}
			w.f.must(account, "account.set_plan", plan)
		}
		for range rapid.IntRange(20, 80).Draw(t, "commands") {
			w.spend()
		}
		if err := w.f.end(); err != nil {
			t.Fatal(err)
		}
		checkStatements(t, w.f.log)
	})
}

// spender does what moves money, and what is refused too.
type spender struct {
	t      *rapid.T
	f      *fixture
	debits []string
	holds  []string
}

func (w *spender) spend() {
	account := rapid.SampledFrom([]string{"a", "a", "b"}).Draw(w.t, "account")
	environment, asset := rapid.SampledFrom([]string{"test", "test", "live"}).Draw(w.t, "environment"), rapid.SampledFrom([]string{"credits", "usd", "eur"}).Draw(w.t, "asset")
	amount := rapid.Int64Range(1, 60).Draw(w.t, "amount")
	verb := rapid.SampledFrom([]string{"grant", "debit", "debit", "adjust", "transfer", "hold", "capture", "release", "refund", "time"}).Draw(w.t, "verb")
	switch verb {
	case "grant":
		cmd := &ledger.GrantCredit{Environment: environment, Asset: asset, Amount: amount}
		if rapid.Bool().Draw(w.t, "expires") {
			cmd.ExpiresAt = events.At(w.f.clock.now().Add(3 * time.Hour))
		}
		w.do(account, "credit.grant", cmd)
	case "debit":
		w.do(account, "credit.debit", &ledger.DebitCredit{Environment: environment, Asset: asset, Amount: amount, Product: "p", Reference: "r"})
	case "adjust":
		w.do(account, "credit.adjust", &ledger.AdjustCredit{Environment: environment, Asset: asset, Amount: amount - 30, Reason: "r"})
	case "transfer":
		to := map[string]string{"a": "b", "b": "a"}[account]
		w.do(account, "credit.transfer", &ledger.TransferCredit{To: to, Environment: environment, Asset: asset, Amount: amount})
	case "hold":
		w.do(account, "hold.place", &ledger.PlaceHold{Environment: environment, Asset: asset, Amount: amount, ExpiresIn: "2h"})
	case "time":
		w.f.pass(rapid.SampledFrom([]time.Duration{time.Millisecond, time.Hour, 13 * time.Hour}).Draw(w.t, "wait"))
	case "refund":
		if len(w.debits) > 0 {
			w.do(account, "credit.refund", &ledger.RefundCredit{Debit: rapid.SampledFrom(w.debits).Draw(w.t, "debit")})
		}
	default:
		if len(w.holds) == 0 {
			return
		}
		hold := rapid.SampledFrom(w.holds).Draw(w.t, "hold")
		if verb == "capture" {
			w.do(account, "hold.capture", &ledger.CaptureHold{Hold: hold, Amount: &amount})
		} else {
			w.do(account, "hold.release", &ledger.ReleaseHold{Hold: hold})
		}
	}
}

func (w *spender) do(account, verb string, cmd ledger.Command) {
	if cmd.Validate() != nil {
		return // an adjustment by nothing
	}
	r := w.f.do(account, verb, cmd, w.f.clock.id())
	switch d := r.Data.(type) {
	case *events.Debited:
		w.debits = append(w.debits, d.ID)
	case *events.Held:
		if w.holds = append(w.holds, d.ID); d.Capture != nil {
			w.debits = append(w.debits, d.Capture.Debit)
		}
	}
}

// line is a line of a statement as a replay of the log tells it, from the public form of
// its events.
type line struct {
	at           events.Position
	event, kind  string
	time         events.Time
	posted, held int64 // after it
}

type lines map[[3]string][]line // of account, environment and asset

// replayLines reads the log and returns its end.
func replayLines(t *rapid.T, log *store.Memory) (lines, store.Chain) {
	out, chain := lines{}, store.Chain{}
	last, err := log.Last(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	type form struct{ Balance *events.Balance }
	err = store.ReadChecked(context.Background(), log, &chain, last, func(c *store.Commit) error {
		return c.Each(func(e *events.CloudEvent) error {
			var data struct {
				form
				From, To json.RawMessage
			}
			text, err := events.Encode(e.Data)
			if err == nil {
				err = json.Unmarshal(text, &data)
			}
			found := []form{data.form}
			if e.Type == "credit.exchanged" {
				found = make([]form, 2)
				json.Unmarshal(data.From, &found[0])
				json.Unmarshal(data.To, &found[1])
			}
			for _, f := range found {
				if b := f.Balance; b != nil && !strings.HasPrefix(e.Type, "balance.") {
					id := [3]string{e.Account, b.Environment, b.Asset}
					out[id] = append(out[id], line{e.Position, e.ID.String(), e.Type, e.Time, b.Posted, b.Held})
				}
			}
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return out, chain
}

// checkStatements compares the statement of every balance with a replay of the log, whole,
// in pages and by the position of the last movement, and its closing with the balance that
// the views tell of that position.
func checkStatements(t *rapid.T, log *store.Memory) {
	want, end := replayLines(t, log)
	tail := store.NewTail(log, 0)
	tail.Reset(end)
	dir, err := os.MkdirTemp("", "archive")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	quiet := slog.New(slog.DiscardHandler)
	views := projections.NewViews(tail, 0, quiet)
	a, err := archive.Open(archive.Config{Tail: tail, Dir: dir, Logger: quiet, Span: 50, Known: views.Known})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	views.Past = a.Past
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	done := make(chan error, 2)
	go func() { done <- a.Run(ctx) }()
	go func() { done <- views.Run(ctx) }()
	defer func() {
		stop()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}()
	if err := views.Wait(ctx, end.Sequence); err != nil {
		t.Fatal(err)
	}
	s := &statements{t: t, ctx: ctx, archive: a, views: views}
	for id, list := range want {
		s.id = id
		s.compare(list)
	}
}

// statements asks for those of one balance.
type statements struct {
	t       *rapid.T
	ctx     context.Context
	archive *archive.Archive
	views   *projections.Views
	id      [3]string
}

func (s *statements) ask(members string) *archive.Statement {
	body := fmt.Sprintf(`{"environment":%q,"asset":%q%s}`, s.id[1], s.id[2], members)
	out, _, err := s.archive.Statement(s.ctx, s.id[0], []byte(body))
	if err != nil {
		s.t.Fatalf("%s: %v", body, err)
	}
	return out.(*archive.Statement)
}

func (s *statements) compare(list []line) {
	all := s.ask(`,"limit":500`)
	s.same(all, list, nil)
	limit := rapid.IntRange(1, 7).Draw(s.t, "limit")
	for _, since := range []bool{false, true} {
		var paged []archive.Movement
		more, closing := "", archive.Amounts{}
		for range len(list) + 1 {
			page := s.ask(fmt.Sprintf(`,"limit":%d%s`, limit, more))
			if page.Opening != closing {
				s.t.Fatalf("a page opens with %+v, the one before closes with %+v", page.Opening, closing)
			}
			closing = page.Closing
			paged = append(paged, page.Movements...)
			if page.NextCursor == nil {
				break
			}
			more = fmt.Sprintf(`,"cursor":%q`, *page.NextCursor)
			if since {
				more = fmt.Sprintf(`,"from_position":%q`, paged[len(paged)-1].Position)
			}
		}
		if !slices.Equal(paged, all.Movements) || closing != all.Closing {
			s.t.Fatalf("in pages %v, at once %v", paged, all.Movements)
		}
	}
	to := rapid.IntRange(0, len(list)-1).Draw(s.t, "to")
	from := rapid.IntRange(0, to).Draw(s.t, "from")
	s.same(s.ask(fmt.Sprintf(`,"limit":500,"from_position":%q,"to_position":%q`, list[from].at, list[to].at)),
		list[from+1:to+1], &list[to])
	s.asIn(s.ask(fmt.Sprintf(`,"limit":500,"to_position":%q`, list[to].at)).Closing, list[to].at)
	s.times(list, list[from].time, list[to].time)
}

// times compares what lies between two times.
func (s *statements) times(list []line, from, to events.Time) {
	if from >= to {
		return
	}
	var want []line
	last := &line{}
	for i := range list {
		if l := &list[i]; l.time < to {
			last = l
			if l.time >= from {
				want = append(want, *l)
			}
		}
	}
	s.same(s.ask(fmt.Sprintf(`,"limit":500,"from_time":%q,"to_time":%q`, from, to)), want, last)
}

// same compares a statement with lines; empty is what an empty one closes with.
func (s *statements) same(got *archive.Statement, want []line, empty *line) {
	if len(got.Movements) != len(want) || got.NextCursor != nil {
		s.t.Fatalf("%v has %d movements and not %d", s.id, len(got.Movements), len(want))
	}
	balance := got.Opening
	for i, l := range want {
		m := &got.Movements[i]
		if m.Position != l.at.String() || m.Type != l.kind || m.Event.String() != l.event || m.Time != l.time ||
			m.Posted != l.posted || m.Held != l.held || m.Available != l.posted-l.held || m.Amount != l.posted-balance.Posted {
			s.t.Fatalf("movement %d of %v is %+v, and the log has %+v after %+v", i, s.id, *m, l, balance)
		}
		balance = m.Amounts
	}
	if got.Closing != balance {
		s.t.Fatalf("it closes with %+v and not %+v", got.Closing, balance)
	}
	if len(want) == 0 && (got.Opening != got.Closing || got.Closing.Posted != empty.posted || got.Closing.Held != empty.held) {
		s.t.Fatalf("an empty statement opens with %+v, closes with %+v and should have %+v", got.Opening, got.Closing, empty)
	}
}

// asIn compares a closing with the balance of that position.
func (s *statements) asIn(closing archive.Amounts, at events.Position) {
	body := fmt.Sprintf(`{"environment":%q,"asset":%q,"at_position":%q}`, s.id[1], s.id[2], at)
	answer, refused := s.views.Queries()["balance.get"](s.ctx, &projections.Query{Account: s.id[0], Body: []byte(body)})
	if refused != nil {
		s.t.Fatal(refused)
	}
	text, err := events.Encode(answer.Result)
	var result struct{ Balance archive.Amounts }
	if err == nil {
		err = json.Unmarshal(text, &result)
	}
	if err != nil || result.Balance != closing {
		s.t.Fatalf("at %s %v has %s by its views, %+v by its statement: %v", at, s.id, text, closing, err)
	}
}
