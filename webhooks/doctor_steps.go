package webhooks

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// certificateSoon is how long before its end a certificate should be seen to.
const certificateSoon = 14 * 24 * time.Hour

// replayDoctor is the extension "replay" of the event that endpoint.doctor sends: it is in
// no log, and has no number among those that the endpoint is owed.
const replayDoctor = "doctor"

// examination is one endpoint.doctor. It is one goroutine's.
type examination struct {
	d        *Dispatcher
	endpoint *events.Endpoint
	at       events.Position // at which the endpoint stood so
	steps    []CheckupStep
	blocked  bool // a step failed without which there is no connection

	target *url.URL
	addrs  []netip.Addr
	conn   net.Conn
	sealed unsealed
	broken error // what is sealed could not be opened
}

// run goes through the steps.
func (x *examination) run(ctx context.Context) {
	x.sealed, x.broken = x.d.unseal(x.endpoint, x.d.cfg.Clock())
	x.addressed(ctx)
	x.needs("connect", func(s *CheckupStep) { x.connect(ctx, s) })
	x.needs("tls", func(s *CheckupStep) { x.handshake(ctx, s) })
	if x.conn != nil {
		x.conn.Close()
	}
	x.needs("consent", func(s *CheckupStep) { x.consent(ctx, s) })
	x.step("sign", x.sign)
	x.needs("ping", func(s *CheckupStep) { x.ping(ctx, s) })
}

// step does one and notes how it went.
func (x *examination) step(name string, do func(*CheckupStep)) *CheckupStep {
	s := CheckupStep{Name: name, Result: StepOK}
	began := time.Now()
	do(&s)
	s.DurationMS = milliseconds(time.Since(began))
	x.steps = append(x.steps, s)
	return &x.steps[len(x.steps)-1]
}

// needs is step of what needs all steps before it.
func (x *examination) needs(name string, do func(*CheckupStep)) {
	if x.blocked {
		x.steps = append(x.steps, CheckupStep{Name: name, Result: StepSkipped})
		return
	}
	if s := x.step(name, do); s.Result == StepFailed {
		x.blocked = true
	}
}

// fail notes what went wrong, with the hint that there is to it.
func (s *CheckupStep) fail(phase Phase, text string) {
	s.Result, s.Error, s.Hint = StepFailed, text, hint(phase, text)
}

func (s *CheckupStep) failed(err error, phase Phase) { s.fail(describe(err, phase)) }

// addressed is the steps resolve and guard. How many addresses there are is told only if
// none is refused.
func (x *examination) addressed(ctx context.Context) {
	guard, allowHTTP := x.d.cfg.Client.config.Guard, x.d.cfg.Client.config.AllowHTTP
	var refused error
	x.target, refused = guard.CheckURL(cmp.Or(x.sealed.url, x.endpoint.URL), allowHTTP)
	if refused != nil {
		x.steps = append(x.steps, CheckupStep{Name: "resolve", Result: StepSkipped})
	} else {
		x.needs("resolve", func(s *CheckupStep) {
			var err error
			if x.addrs, err = guard.resolve(ctx, x.target.Hostname()); err != nil {
				s.failed(err, PhaseDNS)
				return
			}
			if refused = guard.checkDialled(x.addrs); refused == nil {
				s.Detail = count(len(x.addrs), "address", "addresses")
			}
		})
	}
	x.needs("guard", func(s *CheckupStep) {
		if refused != nil {
			s.failed(refused, PhaseGuard)
		}
	})
}

func (x *examination) connect(ctx context.Context, s *CheckupStep) {
	port := uint16(443)
	if x.target.Scheme == "http" {
		port = 80
	}
	if text := x.target.Port(); text != "" {
		n, _ := strconv.ParseUint(text, 10, 16) // the guard has read it
		port = uint16(n)
	}
	var err error
	x.conn, err = x.d.cfg.Client.config.Guard.dial(ctx, "tcp", x.addrs[:min(len(x.addrs), MaxDialledAddresses)], port)
	if err != nil {
		s.failed(err, PhaseConnect)
	}
}

func (x *examination) handshake(ctx context.Context, s *CheckupStep) {
	if x.target.Scheme == "http" {
		s.Result, s.Detail = StepSkipped, "plain http: what is sent can be read on its way"
		return
	}
	config := x.d.cfg.Client.tlsConfig()
	config.ServerName = x.target.Hostname()
	conn := tls.Client(x.conn, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		s.failed(err, PhaseTLS)
		return
	}
	state := conn.ConnectionState()
	left := time.Until(state.PeerCertificates[0].NotAfter)
	s.Detail = tls.VersionName(state.Version) + ", the certificate ends in " + count(int(left/(24*time.Hour)), "day", "days")
	if left < certificateSoon {
		s.Result, s.Hint = StepWarning, "renew the receiver's certificate: without one that holds nothing is delivered"
	}
}

func (x *examination) consent(ctx context.Context, s *CheckupStep) {
	switch {
	case x.d.cfg.Consent == ConsentPolicyOff:
		s.Result, s.Detail = StepSkipped, "receivers are not asked here (--webhook-consent off)"
		return
	case x.broken != nil:
		s.Result = StepSkipped
		return
	}
	consent, err := x.d.cfg.Client.AskConsent(ctx, x.sealed.url, x.sealed.headers, x.endpoint.RatePerMinute)
	if err != nil {
		s.fail(PhaseConsent, "timed out")
		return
	}
	if !consent.Confirmed {
		s.fail(PhaseConsent, consent.Error)
		if x.d.cfg.Consent != ConsentPolicyRequire {
			s.Result = StepWarning
		}
		return
	}
	s.Detail = "any number of requests"
	if consent.Rate > 0 {
		s.Detail = count(int(consent.Rate), "request", "requests") + " a minute"
	}
}

func (x *examination) sign(s *CheckupStep) {
	if x.broken != nil {
		s.fail(PhaseSeal, "cannot open sealed value")
		return
	}
	versions := make([]string, len(x.sealed.keys))
	for i, key := range x.sealed.keys {
		versions[i] = key.Version
	}
	s.Detail = strings.Join(versions, ", ")
}

// ping sends an event as a delivery is sent. Its answer counts for nothing but this step.
func (x *examination) ping(ctx context.Context, s *CheckupStep) {
	if x.broken != nil {
		s.Result = StepSkipped
		return
	}
	event, now := x.event()
	body, err := event.Structured()
	if err != nil {
		s.fail(PhaseSeal, "cannot make the event")
		return
	}
	result, err := x.d.cfg.Client.Do(ctx, Request{
		URL: x.sealed.url, Body: body, ID: event.ID.String(), Headers: x.sealed.headers,
		Keys: x.sealed.keys, Now: now, Timeout: timeoutOf(x.endpoint),
	})
	switch {
	case errors.Is(err, ErrRequest):
		s.fail(PhaseSeal, "cannot make the request")
	case err != nil:
		s.fail(PhaseHeaders, "timed out")
	case result.Phase != "":
		s.fail(result.Phase, result.Error)
	case result.Outcome != OutcomeDelivered:
		s.fail(phasePing, "answered "+strconv.Itoa(result.Status))
	default:
		s.Detail = "answered " + strconv.Itoa(result.Status)
	}
}

// event is what ping sends: the endpoint as it stands, under an id of its own. It is in no
// log; its position is that of the log at which the endpoint stood so.
func (x *examination) event() (*events.CloudEvent, time.Time) {
	now, id := x.d.cfg.Clock(), ulid.Make()
	return &events.CloudEvent{
		Event: events.Event{
			Type: "endpoint.tested", Account: x.endpoint.Account, Environment: x.endpoint.Environment,
			Subject: x.endpoint.ID, Data: x.endpoint,
		},
		ID: id, CommandID: id, Time: events.At(now), Position: x.at, Replay: replayDoctor,
	}, now
}

// count writes a number of things.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
