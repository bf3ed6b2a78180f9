package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/time/rate"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
)

const (
	hookAccounts = 2
	hookKeys     = 3   // an account: groups of events that stay in order
	hookClients  = 8   // of the accounts together
	hookPace     = 100 // events a second, of the accounts together
	changePace   = 10  // commands a second about endpoints
	changingMax  = 6   // endpoints that come and go
)

// hookKinds are the endpoints that every account has from the beginning to the end.
var hookKinds = map[string]ledger.RegisterEndpoint{
	"plain":   {Events: []string{"*"}},
	"slow":    {Events: []string{"credit.*"}, Signing: events.SigningV1a},
	"failing": {Events: []string{"*"}},
	"hanging": {Events: []string{"*"}, Timeout: "1s"},
	"ordered": {Events: []string{"*"}, Ordering: events.OrderingKey},
	"limited": {Events: []string{"endpoint.*", "key.*"}, RatePerMinute: 600},
}

// hookLoad makes events, and changes endpoints meanwhile.
type hookLoad struct {
	t     *testing.T
	c     *client.Client
	url   string // of the receivers
	asker *load
	pace  *rate.Limiter

	// of the one goroutine that changes endpoints
	random   *rand.Rand
	changing []changing
	hanging  []changing // endpoints that are behind, to jump
	made     int
	changes  map[string]int // done, by verb
}

// changing is an endpoint that comes and goes.
type changing struct{ account, id string }

// newHookLoad prepares the accounts and their endpoints.
func newHookLoad(t *testing.T, c *client.Client, hooks *hooks, seed uint64) *hookLoad {
	t.Helper()
	l := &hookLoad{
		t: t, c: c, url: hooks.URL, asker: &load{t: t, within: 2 * time.Second, pace: rate.NewLimiter(500, 8)},
		pace: rate.NewLimiter(hookPace, hookPace/10), random: rand.New(rand.NewPCG(seed, 8)), changes: map[string]int{},
	}
	for i := range hookAccounts {
		account := fmt.Sprintf("account-%d", i)
		l.asker.keys = append(l.asker.keys, prepare(t, c, nil, account))
		for range hookKeys - 1 {
			key, err := c.CreateKey(t.Context(), account, ledger.CreateKey{Environment: events.Test, Name: "load"})
			if err != nil {
				t.Fatal(err)
			}
			l.asker.keys = append(l.asker.keys, key)
		}
		for kind, body := range hookKinds {
			body.Environment, body.URL = events.Test, l.url+"/"+account+"/"+kind
			made, err := c.RegisterEndpoint(t.Context(), account, body)
			if err != nil {
				t.Fatal(err)
			}
			if kind == "hanging" {
				l.hanging = append(l.hanging, changing{account, made.Endpoint.ID})
			}
		}
	}
	return l
}

// start makes events and changes until stop is called, which waits until each command has
// its answer.
func (l *hookLoad) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for n := range hookClients {
		all.Go(func() {
			cost := int64(1)
			for i := n; l.pace.Wait(ctx) == nil; i++ {
				l.asker.ask(l.c, &ledger.Authorize{Secret: l.asker.keys[i%len(l.asker.keys)].Secret, ID: ulid.Make().String(), Product: "payments", Cost: &cost})
			}
		})
	}
	all.Go(func() {
		for pace := rate.NewLimiter(changePace, 1); pace.Wait(ctx) == nil; {
			l.change()
		}
	})
	return func() {
		cancel()
		all.Wait()
	}
}

// resume lets every endpoint that stands go on.
func (l *hookLoad) resume() {
	for _, e := range l.changing {
		l.do(e.account, "endpoint.resume", map[string]any{"endpoint": e.id})
	}
}

// change registers an endpoint, or does something to one that is there.
func (l *hookLoad) change() {
	if len(l.changing) < changingMax && l.random.IntN(3) == 0 || len(l.changing) == 0 {
		l.register()
		return
	}
	if l.random.IntN(20) == 0 {
		e := l.hanging[l.random.IntN(len(l.hanging))]
		l.do(e.account, "endpoint.update", map[string]any{"endpoint": e.id, "skip_to": "now"})
		return
	}
	at := l.random.IntN(len(l.changing))
	e := l.changing[at]
	verb, body := l.something()
	if verb == "remove" {
		l.changing = append(l.changing[:at], l.changing[at+1:]...)
	}
	body["endpoint"] = e.id
	l.do(e.account, "endpoint."+verb, body)
}

func (l *hookLoad) register() {
	l.made++
	account := fmt.Sprintf("account-%d", l.random.IntN(hookAccounts))
	kind := []string{"plain", "slow", "failing", "ordered"}[l.random.IntN(4)]
	body := map[string]any{"url": fmt.Sprintf("%s/changing-%d/%s", l.url, l.made, kind), "environment": events.Test, "events": []string{"*"}}
	if kind == "ordered" {
		body["ordering"] = events.OrderingKey
	}
	var out client.NewEndpoint
	if reply := l.do(account, "endpoint.register", body); reply != nil {
		if err := reply.Decode(&out); err != nil {
			l.t.Error(err)
			return
		}
		l.changing = append(l.changing, changing{account, out.Endpoint.ID})
	}
}

// something is a verb and what its body has beside the endpoint. What an endpoint is owed
// grows more often than it stops.
func (l *hookLoad) something() (string, map[string]any) {
	pick := func(list ...any) any { return list[l.random.IntN(len(list))] }
	switch l.random.IntN(16) {
	case 0:
		return "pause", map[string]any{}
	case 1, 2, 3:
		return "resume", map[string]any{}
	case 4:
		return "remove", map[string]any{}
	case 5, 6:
		return "rotate_secret", map[string]any{"grace": pick("0s", "3s", "24h"), "signing": pick(events.SigningV1, events.SigningV1a)}
	case 7:
		return "test", map[string]any{}
	case 8, 9:
		return "update", map[string]any{"skip_to": pick("now", "0:20")}
	case 10, 11:
		from := 1 + l.random.IntN(100)
		return "replay", map[string]any{"from_position": fmt.Sprintf("0:%d", from), "to_position": fmt.Sprintf("0:%d", from+l.random.IntN(60)), "events": []string{"*"}}
	default:
		return "update", map[string]any{"events": pick([]string{"*"}, []string{"credit.*"}, []string{"endpoint.*", "credit.debited"})}
	}
}

// do gives a command, with the same id until it is answered, and returns nil if it was
// refused.
func (l *hookLoad) do(account, verb string, body map[string]any) *client.Reply {
	id := ulid.Make()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), l.asker.within)
		reply, err := l.c.Command(ctx, account, verb, body, client.WithID(id))
		cancel()
		var coded *events.Error
		switch {
		case err == nil:
			l.changes[strings.TrimPrefix(verb, "endpoint.")]++
			return reply
		case errors.As(err, &coded) && coded.Code != events.Unavailable && coded.Code != events.OutcomeUnknown:
			if coded.Code != events.FailedPrecondition && coded.Code != events.LimitExceeded {
				l.t.Errorf("%s %v: %v", verb, body, err)
			}
			return nil
		}
		if err := l.asker.pace.Wait(context.Background()); err != nil {
			l.t.Error(err)
			return nil
		}
	}
}
