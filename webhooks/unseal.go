package webhooks

import (
	"fmt"
	"time"

	"github.com/keyledger/keyledger/events"
)

// unsealed is what an endpoint keeps sealed.
type unsealed struct {
	url     string // with its query
	query   string
	headers map[string]string
	keys    []SigningKey // newest first, those that sign at the time it was opened for
}

// unseal opens all that is sealed in an endpoint and is needed at a time.
func (d *Dispatcher) unseal(e *events.Endpoint, at time.Time) (unsealed, error) {
	u := unsealed{url: e.URL, headers: make(map[string]string, len(e.Headers))}
	var err error
	if u.keys, err = d.signingKeys(e, at); err != nil {
		return unsealed{}, err
	}
	if len(e.SealedQuery) > 0 {
		query, err := d.cfg.Sealer.Open(e.Account, e.ID, fieldQuery, e.SealedQuery)
		if err != nil {
			return unsealed{}, err
		}
		u.query = string(query)
		u.url += "?" + u.query
	}
	if len(e.Headers) != len(e.SealedHeaders) {
		return unsealed{}, fmt.Errorf("open headers of %s: %d names and %d values", e.ID, len(e.Headers), len(e.SealedHeaders))
	}
	for i, name := range e.Headers {
		value, err := d.cfg.Sealer.Open(e.Account, e.ID, fieldHeader+name, e.SealedHeaders[i])
		if err != nil {
			return unsealed{}, err
		}
		u.headers[name] = string(value)
	}
	return u, nil
}

// signingKeys opens the secret of an endpoint, and of those before it the ones that sign at
// a time as well: up to their Until, and not in its millisecond.
func (d *Dispatcher) signingKeys(e *events.Endpoint, at time.Time) ([]SigningKey, error) {
	sealed := []events.FormerSecret{{Signing: e.Signing, Sealed: e.SealedSecret}}
	for _, former := range e.Former {
		if former.Until > events.At(at) {
			sealed = append(sealed, former)
		}
	}
	keys := make([]SigningKey, len(sealed))
	for i, one := range sealed {
		secret, err := d.cfg.Sealer.Open(e.Account, e.ID, fieldSecret, one.Sealed)
		if err != nil {
			return nil, err
		}
		keys[i] = SigningKey{Version: one.Signing, Secret: secret}
		if err := keys[i].check(); err != nil {
			return nil, fmt.Errorf("open %s of %s: %w", fieldSecret, e.ID, err)
		}
	}
	return keys, nil
}

// timeoutOf is an endpoint's own timeout, 0 where it has none that holds.
func timeoutOf(e *events.Endpoint) time.Duration {
	timeout, err := time.ParseDuration(e.Timeout)
	if err != nil || timeout < 0 || timeout > MaxTimeout {
		return 0
	}
	return timeout
}
