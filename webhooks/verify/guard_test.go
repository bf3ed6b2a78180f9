package verify_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/webhooks/verify"
)

func newGuard(t rapid.TB, ids int) *verify.Guard {
	t.Helper()
	g, err := verify.NewGuard(ids)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestGuardLimits(t *testing.T) {
	for ids, ok := range map[int]bool{-1: false, 0: true, 1: true, verify.MaxGuardIDs: true, verify.MaxGuardIDs + 1: false} {
		if _, err := verify.NewGuard(ids); (err == nil) != ok {
			t.Errorf("%d ids: %v", ids, err)
		}
	}
}

func TestGuardRemembersWhatWasHandled(t *testing.T) {
	g, failure := newGuard(t, 2), errors.New("failed")
	for i, tt := range []struct {
		id     string
		fails  error
		repeat bool
	}{
		{"a", failure, false}, {"a", nil, false}, {"a", nil, true},
		{"b", nil, false}, {"a", nil, true}, {"b", nil, true}, // as many as it remembers
		{"c", nil, false}, {"b", nil, true}, {"c", nil, true}, {"a", nil, false}, // the oldest was forgotten
		{"b", failure, false},
	} {
		called := false
		repeat, err := g.Do(tt.id, func() error { called = true; return tt.fails })
		if repeat != tt.repeat || called == tt.repeat || err != tt.fails {
			t.Errorf("step %d, %s: repeat %t, called %t, %v", i+1, tt.id, repeat, called, err)
		}
	}
}

// A naive guard, which keeps a list, says the same.
func TestGuardRemembersTheNewest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 5).Draw(t, "size")
		g, list := newGuard(t, size), []string{}
		failure := errors.New("failed")
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			id := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g"}).Draw(t, "id")
			var outcome error
			if rapid.Bool().Draw(t, "fails") {
				outcome = failure
			}
			known := false
			for _, handled := range list {
				known = known || handled == id
			}
			called := false
			repeat, err := g.Do(id, func() error { called = true; return outcome })
			if repeat != known || called == known || (!known && err != outcome) || (known && err != nil) {
				t.Fatalf("%s with %v handled: repeat %t, called %t, %v", id, list, repeat, called, err)
			}
			if !known && outcome == nil {
				list = append(list, id)
				list = list[max(0, len(list)-size):]
			}
		}
	})
}

func TestGuardWhileBusy(t *testing.T) {
	g := newGuard(t, 0)
	inside, err := g.Do("a", func() error {
		if repeat, err := g.Do("a", func() error { t.Error("handled twice at once"); return nil }); repeat || !errors.Is(err, verify.ErrBusy) {
			t.Errorf("the same event, at once: %t, %v", repeat, err)
		}
		if repeat, err := g.Do("b", func() error { return nil }); repeat || err != nil {
			t.Errorf("another event, at once: %t, %v", repeat, err)
		}
		return nil
	})
	if inside || err != nil {
		t.Errorf("%t, %v", inside, err)
	}
	func() {
		defer func() { _ = recover() }()
		_, _ = g.Do("c", func() error { panic("handler") })
	}()
	if repeat, err := g.Do("c", func() error { return nil }); repeat || err != nil {
		t.Errorf("after a panic: %t, %v", repeat, err)
	}
}

func TestGuardFromManySides(t *testing.T) {
	const events, senders = 50, 8
	g := newGuard(t, events)
	var handled [events]atomic.Int32
	var all sync.WaitGroup
	for range senders {
		all.Go(func() {
			for i := range events {
				for { // as a sender does, until it is told that it is done
					_, err := g.Do(fmt.Sprint(i), func() error { handled[i].Add(1); return nil })
					if err == nil {
						break
					}
				}
			}
		})
	}
	all.Wait()
	for i := range handled {
		if n := handled[i].Load(); n != 1 {
			t.Errorf("event %d was handled %d times", i, n)
		}
	}
}

func TestHandler(t *testing.T) {
	at := time.Unix(vectorTimestamp, 0)
	var outcome error
	var got []string
	h := verify.Handler(newVerifier(t, at, vectorSecret), newGuard(t, 0), func(ctx context.Context, e *verify.Event) error {
		got = append(got, e.Subject)
		return outcome
	})
	answer := func(r *http.Request) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Body.Len() != 0 {
			t.Errorf("the answer says %q", w.Body)
		}
		return w
	}
	for _, tt := range []struct {
		outcome error
		status  int
		handled int // so far
	}{
		{errors.New("no room"), 500, 1},
		{verify.ErrSignature, 500, 2}, // the handler's own
		{nil, 204, 3},
		{nil, 204, 3}, // a repeat
	} {
		outcome = tt.outcome
		if w := answer(post(t, eventID, eventBody)); w.Code != tt.status || len(got) != tt.handled {
			t.Errorf("handler's %v: status %d after %d, want %d after %d", tt.outcome, w.Code, len(got), tt.status, tt.handled)
		}
	}
	forged := post(t, eventID+"X", eventBody)
	forged.Header.Set("webhook-signature", vectorV1)
	if w := answer(forged); w.Code != 401 {
		t.Errorf("forged: %d", w.Code)
	}
	if w := answer(httptest.NewRequest(http.MethodGet, "/", nil)); w.Code != 405 || w.Header().Get("Allow") != "POST, OPTIONS" {
		t.Errorf("GET: %d, %v", w.Code, w.Header())
	}
	if len(got) != 3 {
		t.Errorf("handled %d events, want 3", len(got))
	}
}

func TestHandlerWhileBusy(t *testing.T) {
	var h http.Handler
	second := httptest.NewRecorder()
	h = verify.Handler(newVerifier(t, time.Unix(vectorTimestamp, 0), vectorSecret), newGuard(t, 0), func(context.Context, *verify.Event) error {
		h.ServeHTTP(second, post(t, eventID, eventBody))
		return nil
	})
	first := httptest.NewRecorder()
	h.ServeHTTP(first, post(t, eventID, eventBody))
	if first.Code != 204 || second.Code != 409 {
		t.Errorf("first %d, second %d at once", first.Code, second.Code)
	}
}
