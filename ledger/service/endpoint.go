package service

import (
	"cmp"
	"crypto/rand"
	"net/url"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
)

// checkEndpoint checks what only the package that delivers can judge.
func (s *Service) checkEndpoint(cmd ledger.Command) *events.Error {
	var address string
	var headers map[string]string
	switch c := cmd.(type) {
	case *ledger.RegisterEndpoint:
		address, headers = c.URL, c.Headers
	case *ledger.UpdateEndpoint:
		if headers = c.Headers; c.URL != nil {
			address = *c.URL
		}
	}
	if address == "" && len(headers) == 0 || len(address) > ledger.MaxURLBytes || len(headers) > ledger.MaxHeaders {
		return nil
	}
	if err := s.cfg.CheckEndpoint(address, headers); err != nil {
		return events.Errorf(events.InvalidArgument, "%v", err)
	}
	return nil
}

func (s *Service) completeRegister(account string, c *ledger.RegisterEndpoint) newSecret {
	id := ledger.EndpointIDPrefix + ulid.Make().String()
	c.Endpoint = s.sealEndpoint(account, id, c.URL, c.HeaderNames(), c.Headers)
	secret, sealed, public := s.endpointSecret(account, id)
	c.Endpoint.SealedSecret, c.Endpoint.PublicKey = sealed, public
	return secret
}

func (s *Service) completeUpdate(account string, c *ledger.UpdateEndpoint) {
	var address string
	if c.URL != nil {
		address = *c.URL
	}
	c.Made = s.sealEndpoint(account, c.Endpoint, address, c.HeaderNames(), c.Headers)
	plain := map[string]string{}
	for name, value := range c.Headers {
		plain["header/"+name] = value
	}
	if u, err := url.Parse(address); err == nil {
		plain["query"] = u.RawQuery
	}
	c.Same = func(field string, sealed []byte) bool {
		was, err := s.cfg.Sealer.Open(account, c.Endpoint, field, sealed)
		return err == nil && string(was) == plain[field]
	}
}

func (s *Service) completeRotate(account string, c *ledger.RotateEndpointSecret) newSecret {
	var secret newSecret
	secret, c.Sealed, c.PublicKey = s.endpointSecret(account, c.Endpoint)
	return secret
}

// endpointSecret makes 32 random bytes that an endpoint signs with, as they are (v1) or as
// the seed of a key (v1a). What is shown depends on which.
func (s *Service) endpointSecret(account, endpoint string) (shown newSecret, sealed []byte, public string) {
	var random [32]byte
	rand.Read(random[:])
	secret := s.cfg.EndpointSecret(random)
	shown = func(d events.Data) string { return cmp.Or(d.(*events.Endpoint).PublicKey, secret) }
	return shown, s.cfg.Sealer.Seal(account, endpoint, "secret", random[:]), s.cfg.EndpointKey(random)
}

// sealEndpoint returns an endpoint with its URL and headers as they are stored. The URL was
// checked; what stands behind "?" may be a token and is sealed.
func (s *Service) sealEndpoint(account, id, address string, names []string, headers map[string]string) *events.Endpoint {
	e := &events.Endpoint{ID: id, Headers: names, Consent: events.ConsentOff}
	if u, err := url.Parse(address); err == nil {
		if u.RawQuery != "" {
			e.SealedQuery = s.cfg.Sealer.Seal(account, id, "query", []byte(u.RawQuery))
		}
		u.RawQuery, u.ForceQuery = "", false
		e.URL = u.String()
	}
	for _, name := range names {
		e.SealedHeaders = append(e.SealedHeaders, s.cfg.Sealer.Seal(account, id, "header/"+name, []byte(headers[name])))
	}
	return e
}
