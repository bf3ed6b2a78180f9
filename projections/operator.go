package projections

import (
	"context"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// projectionsResult answers projection.list.
type projectionsResult struct {
	Projections []Status `json:"projections"`
	Work        *Work    `json:"work"`  // that is done or was done last; null: none since the start
	Works       []Work   `json:"works"` // it and the ones before, the newest first, at most 8
}

// workResult answers projection.rebuild and projection.verify: the work has begun.
type workResult struct {
	Work *Work `json:"work"`
}

// rebuildBody is the body of projection.rebuild.
type rebuildBody struct {
	Names []string `json:"names"`
}

// Operator is the queries by which the operator looks after the projections, as
// account "_": projection.list, projection.rebuild {"names":[…]} and projection.verify,
// which also does the checks. The latter two return at once; the list shows how the work
// gets on and what came of it, beside the states that status returns.
func (v *Views) Operator(status func() []Status, checks ...Check) map[string]QueryFunc {
	return map[string]QueryFunc{
		"projection.list": operator(v, "list", func(*struct{}) (any, *events.Error) {
			return projectionsResult{status(), v.Work(), v.Works()}, nil
		}),
		"projection.rebuild": operator(v, "rebuild", func(body *rebuildBody) (any, *events.Error) {
			return begun(v.Rebuild(body.Names...))
		}),
		"projection.verify": operator(v, "verify", func(*struct{}) (any, *events.Error) {
			return begun(v.Verify(checks...))
		}),
	}
}

func begun(w *Work, err *events.Error) (any, *events.Error) { return workResult{w}, err }

// operator makes a QueryFunc of the ledger itself: a customer may ask all queries of its
// own account, and none of these.
func operator[Body any](v *Views, verb string, answer func(*Body) (any, *events.Error)) QueryFunc {
	return func(_ context.Context, q *Query) (Answer, *events.Error) {
		if q.Account != ledgerItself {
			return Answer{}, events.Errorf(events.InvalidArgument, "projection.%s is the operator's: ask %s%s.projection.%s",
				verb, store.SubjectQuery, ledgerItself, verb)
		}
		var body Body
		if err := events.DecodeStrict(q.Body, &body); err != nil {
			return Answer{}, err
		}
		result, err := answer(&body)
		if err != nil {
			return Answer{}, err
		}
		return Answer{Result: result, Position: v.Applied().Position()}, nil
	}
}
