package service

import (
	"cmp"
	"context"
	"net/url"
	"strings"
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

// preview asks the receiver of a command that would be done, and of no other: a refusal and
// the first answer to an id that was used are given without a request to anybody.
func (s *Service) preview(r *request, req *writer.Request, secret newSecret) {
	look := *req
	look.Preview = true
	look.Done = func(reply *writer.Reply) {
		if reply.Err != nil || reply.Replayed {
			r.answerCommand(reply, secret)
			return
		}
		was, _ := reply.Data.(*events.Endpoint)
		go s.ask(r, req, was)
	}
	s.cfg.Writer.Submit(&look)
}

// ask asks the receiver and submits the command with what it said. It is about an endpoint
// that was so, nil for a new one.
func (s *Service) ask(r *request, req *writer.Request, was *events.Endpoint) {
	wait := time.Duration(float64(time.Until(r.deadline)) * askShare)
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if err := s.consent(ctx, req.Account, req.Command, was); err != nil {
		r.fail(err)
		return
	}
	s.cfg.Writer.Submit(req)
}

// consent gives a command what its receiver said, once it is its turn to ask. One that may
// not be asked now is unconfirmed, where that is allowed.
func (s *Service) consent(ctx context.Context, account string, cmd ledger.Command, was *events.Endpoint) *events.Error {
	who, made := s.receiver(account, cmd, was)
	if wait := s.questions.take(account, time.Now()); wait > 0 {
		if s.cfg.RequireConsent {
			return errAskedTooOften(account, wait)
		}
		made.Consent, made.AllowedRate = events.ConsentUnconfirmed, 0
		return nil
	}
	if err := s.asking.enter(ctx, account); err != nil {
		return err
	}
	defer s.asking.leave(account)
	made.Consent, made.AllowedRate = s.cfg.Consent(ctx, who)
	return nil
}

// receiver tells who is asked, and the endpoint that gets the answer. The command learns
// whether a consent is required.
func (s *Service) receiver(account string, cmd ledger.Command, was *events.Endpoint) (Receiver, *events.Endpoint) {
	if c, ok := cmd.(*ledger.RegisterEndpoint); ok {
		c.RequireConsent = s.cfg.RequireConsent
		return Receiver{account, c.URL, c.Headers, c.RatePerMinute}, c.Endpoint
	}
	c := cmd.(*ledger.UpdateEndpoint)
	c.RequireConsent = s.cfg.RequireConsent
	who := Receiver{Account: account, URL: *c.URL, Headers: c.Headers}
	switch {
	case c.RatePerMinute != nil:
		who.Rate = *c.RatePerMinute
	case was != nil:
		who.Rate = was.RatePerMinute
	}
	if c.Headers == nil && was != nil && sameOrigin(*c.URL, was.URL) {
		who.Headers = s.keptHeaders(account, was)
	}
	return who, c.Made
}

// keptHeaders opens the custom headers of an endpoint, nil if they cannot be opened: then
// nothing can be delivered to it either.
func (s *Service) keptHeaders(account string, e *events.Endpoint) map[string]string {
	headers := make(map[string]string, len(e.Headers))
	for i, name := range e.Headers {
		value, err := s.cfg.Sealer.Open(account, e.ID, "header/"+name, e.SealedHeaders[i])
		if err != nil {
			s.cfg.Logger.Error("cannot open a custom header", "account", account, "endpoint", e.ID, "header", name, "error", err)
			return nil
		}
		headers[name] = string(value)
	}
	return headers
}

// sameOrigin says whether two URLs have scheme, host and port in common. What is kept for
// the one may be a password that nobody else shall see.
func sameOrigin(a, b string) bool {
	x, err := url.Parse(a)
	if err != nil {
		return false
	}
	y, err := url.Parse(b)
	return err == nil && x.Scheme == y.Scheme && strings.EqualFold(x.Hostname(), y.Hostname()) && portOf(x) == portOf(y)
}

func portOf(u *url.URL) string {
	if u.Port() == "" && u.Scheme == "https" {
		return "443"
	}
	return cmp.Or(u.Port(), "80")
}
