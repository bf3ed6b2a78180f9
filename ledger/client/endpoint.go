package client

import (
	"context"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
)

// NewEndpoint is an endpoint with its signing secret, which is told this once; with v1a
// it is the public key.
type NewEndpoint struct {
	Endpoint *events.Endpoint `json:"endpoint"`
	Secret   string           `json:"secret"`
}

// RegisterEndpoint registers a webhook endpoint. Secret is empty when the answer is a
// repeated one.
func (c *Client) RegisterEndpoint(ctx context.Context, account string, body ledger.RegisterEndpoint, opts ...Option) (*NewEndpoint, error) {
	out := new(NewEndpoint)
	return out, c.command(ctx, account, "endpoint.register", body, out, opts)
}

// UpdateEndpoint changes the members given of an endpoint.
func (c *Client) UpdateEndpoint(ctx context.Context, account string, body ledger.UpdateEndpoint, opts ...Option) (*events.Endpoint, error) {
	return c.endpoint(ctx, account, "endpoint.update", body, opts)
}

// RotateEndpointSecret lets an endpoint sign with a new secret, and with the ones before
// until their time is over. Secret is empty when the answer is a repeated one.
func (c *Client) RotateEndpointSecret(ctx context.Context, account string, body ledger.RotateEndpointSecret, opts ...Option) (*NewEndpoint, error) {
	out := new(NewEndpoint)
	return out, c.command(ctx, account, "endpoint.rotate_secret", body, out, opts)
}

// TestEndpoint makes an event that the endpoint is owed, whatever it subscribes to.
func (c *Client) TestEndpoint(ctx context.Context, account string, body ledger.TestEndpoint, opts ...Option) (*events.Endpoint, error) {
	return c.endpoint(ctx, account, "endpoint.test", body, opts)
}

// ReplayEndpoint sends events of the past to an endpoint again.
func (c *Client) ReplayEndpoint(ctx context.Context, account string, body ledger.ReplayEndpoint, opts ...Option) (*events.Replay, error) {
	var out struct {
		Replay *events.Replay `json:"replay"`
	}
	err := c.command(ctx, account, "endpoint.replay", body, &out, opts)
	return out.Replay, err
}

func (c *Client) endpoint(ctx context.Context, account, verb string, body any, opts []Option) (*events.Endpoint, error) {
	var out struct {
		Endpoint *events.Endpoint `json:"endpoint"`
	}
	err := c.command(ctx, account, verb, body, &out, opts)
	return out.Endpoint, err
}
