package store

import (
	"context"

	"github.com/keyledger/keyledger/events"
)

// Turn is what a query is asked through ctx to wait for before it does what takes long, so
// that those that only look into memory never wait behind it. It is one goroutine's.
type Turn interface {
	// Read returns when the query may read the log, streams or files, at once where it
	// already may. It is Unavailable where too many want to, or ctx ends first.
	Read(ctx context.Context) *events.Error
	// Wait lets others read while the query waits for a position. It is Unavailable where
	// too many wait.
	Wait(ctx context.Context) *events.Error
}

type turnKey struct{}

// WithTurn returns a ctx of a query that has a turn.
func WithTurn(ctx context.Context, t Turn) context.Context {
	return context.WithValue(ctx, turnKey{}, t)
}

// TurnOf returns the turn of ctx's query; what has none is no query of the service and need
// not wait.
func TurnOf(ctx context.Context) Turn {
	if t, ok := ctx.Value(turnKey{}).(Turn); ok {
		return t
	}
	return anyTime{}
}

// anyTime is a turn that is always there.
type anyTime struct{}

func (anyTime) Read(context.Context) *events.Error { return nil }
func (anyTime) Wait(context.Context) *events.Error { return nil }
