package projections

import (
	"context"
	"fmt"
	"regexp"
	"runtime/debug"

	"github.com/keyledger/keyledger/events"
)

// Registration is a projection for a Runner: how it is made, and what it answers. An
// embedder hands its own to the server (server.Config.Projections); they are folded,
// checkpointed, rebuilt, verified and listed as ours are.
type Registration struct {
	// New makes an empty projection, another one each time: each time it is made again
	// from the log it begins with one. All have the same name, 1 to 64 of a-z 0-9 _ -.
	New func() Projection
	// Queries are what it answers, by verb: "orders.count" is asked for at
	// keyledger.query.<account>.orders.count. A verb of ours cannot be taken.
	Queries map[string]AnswerFunc

	keep     func(Projection) // is given, under the lock, the one that counts from now on
	replaced func(Projection) // is given the one before it, which nobody else has any more
}

// AnswerFunc answers one verb of a projection, for an account that is there or for "_". P
// is the one of those that New made which is true now, and holds still while it runs: it
// must neither change p nor wait. The result is encoded as JSON afterwards, so it may share
// nothing with p that Apply changes. DecodeStrict of package events reads q's Body.
type AnswerFunc func(p Projection, q *Query) (any, *events.Error)

// keep is the registration of a view that is kept in a field.
func keep[P Projection](field *P, make func() P) Registration {
	return Registration{
		New:  func() Projection { return make() },
		keep: func(p Projection) { *field = p.(P) },
	}
}

// verbForm is what a query's verb looks like.
var verbForm = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}\.[a-z][a-z0-9_-]{0,63}$`)

// Check says what is wrong with the registrations: a name or a verb that cannot be one or
// is taken, by another projection, by us, or by what else is in taken.
func (v *Views) Check(taken map[string]bool) error {
	names, verbs := map[string]bool{}, map[string]bool{}
	for verb := range v.ours() {
		verbs[verb] = true
	}
	for i := range v.slots {
		s := &v.slots[i]
		name := s.name
		switch {
		case !events.ValidName(name):
			return fmt.Errorf("projection %q: a name has 1 to 64 of a-z 0-9 _ -", name)
		case names[name] || taken[name]:
			return fmt.Errorf("projection %q: there is one of that name already; choose another name", name)
		}
		names[name] = true
		for verb := range s.how.Queries {
			switch {
			case !verbForm.MatchString(verb):
				return fmt.Errorf("projection %q: query verb %q must be <noun>.<verb>, such as orders.count", name, verb)
			case verbs[verb] || taken[verb]:
				return fmt.Errorf("projection %q: query verb %q is taken; choose another noun", name, verb)
			}
			verbs[verb] = true
		}
	}
	return nil
}

// own adds the queries of registrations to a table.
func (v *Views) own(table map[string]QueryFunc) {
	for i := range v.slots {
		s := &v.slots[i]
		for verb, answer := range s.how.Queries {
			table[verb] = func(ctx context.Context, q *Query) (Answer, *events.Error) {
				if err := v.awaitAll(ctx, q.Account); err != nil {
					return Answer{}, err
				}
				var result any
				at, err := v.read([]string{q.Account}, func() (err *events.Error) {
					if q.Account != ledgerItself {
						if _, err := v.accounts.get(q.Account); err != nil {
							return err
						}
					}
					defer func() {
						if p := recover(); p != nil {
							v.log.Error("a query of a projection panicked", "projection", s.name, "verb", verb, "panic", p, "stack", string(debug.Stack()))
							err = events.Errorf(events.Unavailable, "the projection %s cannot answer %s: the server's log says why", s.name, verb)
						}
					}()
					result, err = answer(s.Projection, q)
					return err
				}, viewAccounts, s.name)
				if err != nil {
					return Answer{}, err
				}
				return Answer{Result: result, Position: at}, nil
			}
		}
	}
}
