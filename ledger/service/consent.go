package service

import (
	"context"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/writer"
)

// askShare is the part of a command's time in which its receiver has to answer; the rest is
// for the command itself, which goes on without an answer where that is allowed.
const askShare = 0.8

// Receiver is one that is asked for its consent.
type Receiver struct {
	Account string
	URL     string            // with its query
	Headers map[string]string // custom ones that the command gives, nil for none
	Rate    int64             // attempts a minute that are wanted, 0 for any number
}

// asks says whether a receiver has to be asked before the command is decided.
func (s *Service) asks(cmd ledger.Command) bool {
	if s.cfg.Consent == nil {
		return false
	}
	switch c := cmd.(type) {
	case *ledger.RegisterEndpoint:
		return true
	case *ledger.UpdateEndpoint:
		return c.URL != nil
	}
	return false
}

// ask asks the receiver and submits the command with what it said.
func (s *Service) ask(r *request, req *writer.Request) {
	wait := time.Duration(float64(time.Until(r.deadline)) * askShare)
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if err := s.consent(ctx, req.Account, req.Command); err != nil {
		r.fail(err)
		return
	}
	s.cfg.Writer.Submit(req)
}

// consent gives a command what its receiver said, once it is its turn to ask.
func (s *Service) consent(ctx context.Context, account string, cmd ledger.Command) *events.Error {
	if err := s.asking.enter(ctx, account); err != nil {
		return err
	}
	defer s.asking.leave(account)
	switch c := cmd.(type) {
	case *ledger.RegisterEndpoint:
		c.RequireConsent = s.cfg.RequireConsent
		c.Endpoint.Consent, c.Endpoint.AllowedRate = s.cfg.Consent(ctx, Receiver{account, c.URL, c.Headers, c.RatePerMinute})
	case *ledger.UpdateEndpoint:
		who := Receiver{Account: account, URL: *c.URL, Headers: c.Headers}
		if c.RatePerMinute != nil {
			who.Rate = *c.RatePerMinute
		}
		c.RequireConsent = s.cfg.RequireConsent
		c.Made.Consent, c.Made.AllowedRate = s.cfg.Consent(ctx, who)
	}
	return nil
}
