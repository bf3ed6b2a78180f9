package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/nats-io/nats.go"
	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
)

const (
	// hookPadding brings a webhook's body near 1 KiB: a reference may have 256 characters,
	// of up to 4 bytes.
	hookPadding = 80
	// owedEach is how much every endpoint is owed at once then, by the mean: less than is
	// kept in memory for one, so that nobody reads the log for it.
	owedEach = 40
	// registersAtOnce is how many endpoints are registered at once.
	registersAtOnce = 32
)

var padding = strings.Repeat("\U0001F514", hookPadding)

// debitDue is the body of a debit that was due at a moment.
func debitDue(due int64) []byte {
	return fmt.Appendf(nil, `{"environment":"test","asset":"credits","amount":1,%s%d %s"}`, dueMark, due, padding)
}

// hooked is a keyledger with endpoints, and their receivers.
type hooked struct {
	sink     *hookSink
	ledger   *process
	conns    []*nats.Conn
	accounts []string
	fan      int // endpoints of an account
	ids      []string
}

// registerAll opens accounts and registers an endpoint at each receiver, fan in an account.
func (h *hooked) registerAll(ctx context.Context, prefix string) error {
	h.accounts = load.AccountNames(prefix, (len(h.sink.urls)+h.fan-1)/h.fan)
	if _, err := load.OpenBooks(ctx, h.conns[0], h.accounts, load.Plain); err != nil {
		return err
	}
	h.ids = make([]string, len(h.sink.urls))
	var group errgroup.Group
	group.SetLimit(registersAtOnce)
	for i, url := range h.sink.urls {
		group.Go(func() (err error) {
			h.ids[i], err = register(ctx, h.conns[0], h.accounts[i/h.fan], url)
			return err
		})
	}
	return group.Wait()
}

// register registers an endpoint for an account's debits and returns its id.
func register(ctx context.Context, conn *nats.Conn, account, url string) (string, error) {
	reply, err := ask(ctx, conn, account, "endpoint.register", fmt.Appendf(nil, `{"url":"%s/","environment":"test","events":["credit.*"]}`, url))
	if err != nil {
		return "", err
	}
	var made struct {
		Endpoint struct {
			ID string `json:"id"`
		} `json:"endpoint"`
	}
	if err := json.Unmarshal(reply.Data, &made); err != nil || made.Endpoint.ID == "" {
		return "", fmt.Errorf("endpoint.register of %s: no id (%v)", account, err)
	}
	return made.Endpoint.ID, nil
}

// ask sends a command that must be done and returns its answer.
func ask(ctx context.Context, conn *nats.Conn, account, verb string, body []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, load.DrainTime)
	defer cancel()
	reply, err := conn.RequestWithContext(ctx, "keyledger.cmd."+account+"."+verb, body)
	if err == nil && reply.Header.Get("Nats-Service-Error") != "" {
		err = fmt.Errorf("refused: %s", reply.Data)
	}
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", verb, account, err)
	}
	return reply, nil
}

// sender sends debits without waiting for their answers, and counts those.
type sender struct {
	conn    *nats.Conn
	inbox   string
	sub     *nats.Subscription
	sent    int64
	done    atomic.Int64 // answers
	refused atomic.Pointer[string]
	from    int64                   // what was due before is not measured
	acked   *hdrhistogram.Histogram // from due to answer; the subscription's own goroutine has it until stop
}

func newSender(conn *nats.Conn, from int64) (s *sender, err error) {
	s = &sender{conn: conn, from: from, inbox: nats.NewInbox(), acked: newLatencies()}
	if s.sub, err = conn.Subscribe(s.inbox+".*", s.answered); err != nil {
		return nil, err
	}
	return s, s.sub.SetPendingLimits(-1, -1)
}

// answered takes an answer; the last token of its subject is when its message was due.
func (s *sender) answered(m *nats.Msg) {
	var due int64
	if _, err := fmt.Sscan(m.Subject[len(s.inbox)+1:], &due); err == nil && due >= s.from {
		record(s.acked, time.Now().UnixNano()-due)
	}
	if len(m.Header) > 0 && (m.Header.Get("Nats-Service-Error") != "" || m.Header.Get("Status") != "") {
		text := string(m.Data) + m.Header.Get("Status")
		s.refused.CompareAndSwap(nil, &text)
	}
	s.done.Add(1)
}

// send sends a debit.
func (s *sender) send(account string, due int64) error {
	msg := nats.NewMsg("keyledger.cmd." + account + ".credit.debit")
	msg.Reply = fmt.Sprintf("%s.%d", s.inbox, due)
	msg.Data = debitDue(due)
	msg.Header.Set(load.HeaderID, ulid.Make().String())
	s.sent++
	return s.conn.PublishMsg(msg)
}

// finish waits until all is answered; what was refused is an error.
func (s *sender) finish(ctx context.Context, p *process) error {
	err := p.within(ctx, load.DrainTime, func() error {
		if n := s.sent - s.done.Load(); n > 0 {
			return fmt.Errorf("%d messages have no answer", n)
		}
		return nil
	})
	if text := s.refused.Load(); text != nil {
		err = errors.Join(err, fmt.Errorf("refused: %s", *text))
	}
	return errors.Join(err, s.sub.Unsubscribe())
}

// pace debits the accounts in turn, so many times a second, while more says that what is
// due then is to be sent. What is due is sent as soon as it can be, and says when it was
// due; the answers to what was due from a moment on are measured.
func (h *hooked) pace(ctx context.Context, rate float64, from int64, more func(due int64) bool) (*sender, error) {
	s, err := newSender(h.conns[0], from)
	if err != nil {
		return nil, err
	}
	every := int64(float64(time.Second) / rate)
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := time.Now().UnixNano()
	for i := 0; more(due) && ctx.Err() == nil; i++ {
		if wait := due - time.Now().UnixNano(); wait > 0 {
			timer.Reset(time.Duration(wait))
			<-timer.C
		}
		if err := s.send(h.accounts[i%len(h.accounts)], due); err != nil {
			return nil, err
		}
		due += every
	}
	return s, s.finish(ctx, h.ledger)
}

// saturate debits as fast as the receivers get what comes of it, until a moment.
func (h *hooked) saturate(ctx context.Context, until int64) error {
	s, err := newSender(h.conns[0], 0)
	if err != nil {
		return err
	}
	begin, err := h.sink.all(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := 0; time.Now().UnixNano() < until && ctx.Err() == nil; {
		all, err := h.sink.all(ctx)
		if err != nil {
			return err
		}
		room := int64(owedEach*len(h.ids)) - (s.sent*int64(h.fan) - (all - begin))
		for ; room > 0; room -= int64(h.fan) {
			if err := s.send(h.accounts[i%len(h.accounts)], time.Now().UnixNano()); err != nil {
				return err
			}
			i++
		}
		if err := h.conns[0].Flush(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return s.finish(ctx, h.ledger)
}

// stop ends the processes.
func (h *hooked) stop() error {
	closeAll(h.conns)
	var failed []error
	if h.ledger != nil {
		failed = append(failed, h.ledger.stop())
	}
	if h.sink != nil {
		failed = append(failed, h.sink.stop())
	}
	return errors.Join(failed...)
}

// settled waits until nothing is pending any more, or so long.
func (h *hooked) settled(ctx context.Context, most time.Duration) error {
	return h.ledger.within(ctx, most, func() error {
		s, err := askStatus(h.asking())
		if err == nil && s.Webhooks.Pending > 0 {
			err = fmt.Errorf("%d deliveries are pending", s.Webhooks.Pending)
		}
		return err
	})
}
