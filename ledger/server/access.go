package server

import (
	"context"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/access"
	"github.com/keyledger/keyledger/projections"
)

// openAccess makes the access log.
func (s *Server) openAccess() error {
	conn, err := s.connectPart("keyledger access log")
	if err != nil {
		return err
	}
	clock := s.cfg.Clock
	if clock == nil {
		clock = time.Now
	}
	views := s.parts.views
	s.parts.access, err = access.New(access.Config{
		Conn: conn, Logger: s.cfg.Logger, Clock: clock, Known: views.Known,
		Caught: func(ctx context.Context) error {
			if err := views.Wait(ctx, s.tail.End().Sequence); err != nil {
				return err
			}
			return views.Made(ctx, projections.ViewKeys)
		},
		Used: func(list []access.Use) {
			uses := make([]projections.Use, len(list))
			for i := range list {
				uses[i] = projections.Use(list[i])
			}
			views.Used(uses)
		},
	})
	return err
}

// observe hands an authorisation that leaves no event to the access log.
func (s *Server) observe(a *ledger.Authorize, answer *ledger.Answer, at events.Time) {
	s.parts.access.Observe(&access.Request{
		Account: answer.Account, Environment: answer.Environment, Key: answer.Key, Code: answer.Code,
		Time: at, IP: a.IP, Product: a.Product, Access: a.Access,
	})
}
