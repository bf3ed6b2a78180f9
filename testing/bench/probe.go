package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
)

const (
	// probeEvery is how often a probe debits its account and looks where that shows.
	probeEvery = 5 * time.Millisecond
	// probeAccount is the account it debits.
	probeAccount = "probe"
	// lagEvery is how often the lag of what follows the log is looked at.
	lagEvery = 100 * time.Millisecond
)

// visible is how long after its answer a debit was to be seen, in microseconds.
type visible struct {
	Probes    int     `json:"probes"`
	ViewP50   float64 `json:"view_p50_us"` // a query of the balance, its own way there and back included
	ViewP99   float64 `json:"view_p99_us"`
	FeedP50   float64 `json:"feed_p50_us"` // the event at a consumer of the feed
	FeedP99   float64 `json:"feed_p99_us"`
	LagEvents uint64  `json:"most_lag_events"` // of the projection that was furthest behind
	LagOf     string  `json:"of"`
	CaughtUp  float64 `json:"caught_up_after_seconds"` // of the end of the run
}

// probe looks how soon what was acknowledged is visible.
type probe struct {
	conn *nats.Conn
	body []byte
	view *hdrhistogram.Histogram

	mu       sync.Mutex // guards all below
	feed     *hdrhistogram.Histogram
	answered map[string]time.Time // by position
	arrived  map[string]time.Time // likewise
}

// watch probes until ctx ends.
func watch(ctx context.Context, conn *nats.Conn) (*visible, error) {
	p := &probe{conn: conn, body: []byte(`{"environment":"test","asset":"credits","amount":1}`),
		view: newLatencies(), feed: newLatencies(), answered: map[string]time.Time{}, arrived: map[string]time.Time{}}
	stop, err := p.consume(ctx)
	if err != nil {
		return nil, fmt.Errorf("consume the feed: %w", err)
	}
	defer stop()
	out := &visible{}
	lag := make(chan error, 1)
	go func() { lag <- out.watchLag(ctx, conn) }()
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := p.once(); err != nil {
			return nil, err
		}
		out.Probes++
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	if err := <-lag; err != nil {
		return nil, err
	}
	p.mu.Lock() // an event may still arrive
	defer p.mu.Unlock()
	out.ViewP50, out.ViewP99 = quantiles(p.view)
	out.FeedP50, out.FeedP99 = quantiles(p.feed)
	return out, nil
}

func newLatencies() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(time.Minute), 3) }

func quantiles(h *hdrhistogram.Histogram) (p50, p99 float64) {
	return float64(h.ValueAtQuantile(50)) / 1000, float64(h.ValueAtQuantile(99)) / 1000
}

// once debits and asks for the balance at that position.
func (p *probe) once() error {
	msg := nats.NewMsg("keyledger.cmd." + probeAccount + ".credit.debit")
	msg.Data = p.body
	msg.Header.Set(load.HeaderID, ulid.Make().String())
	reply, err := p.conn.RequestMsg(msg, load.DrainTime)
	if err != nil {
		return fmt.Errorf("debit: %w", err)
	}
	at := time.Now()
	position := reply.Header.Get("Keyledger-Position")
	if position == "" {
		return fmt.Errorf("debit: %s", reply.Data)
	}
	p.mu.Lock()
	p.answered[position] = at
	p.join(position)
	p.mu.Unlock()
	query := nats.NewMsg("keyledger.query." + probeAccount + ".balance.get")
	query.Data = []byte(`{"environment":"test"}`)
	query.Header.Set("Keyledger-Min-Position", position)
	reply, err = p.conn.RequestMsg(query, load.DrainTime)
	if err != nil {
		return fmt.Errorf("ask for the balance: %w", err)
	}
	if reply.Header.Get("Nats-Service-Error") != "" {
		return fmt.Errorf("ask for the balance: %s", reply.Data)
	}
	return p.view.RecordValue(int64(time.Since(at)))
}

// consume notes when the probe's events come out of the feed.
func (p *probe) consume(ctx context.Context) (stop func(), err error) {
	js, err := jetstream.New(p.conn)
	if err != nil {
		return nil, err
	}
	consumer, err := js.OrderedConsumer(ctx, "KEYLEDGER_EVENTS_0", jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{"keyledger.events.0." + probeAccount + ".>"}, DeliverPolicy: jetstream.DeliverNewPolicy,
	})
	if err != nil {
		return nil, err
	}
	c, err := consumer.Consume(func(m jetstream.Msg) {
		now, position := time.Now(), m.Headers().Get("ce-position")
		p.mu.Lock()
		defer p.mu.Unlock()
		p.arrived[position] = now
		p.join(position)
	})
	if err != nil {
		return nil, err
	}
	return c.Stop, nil
}

// join counts a debit whose answer and event are both there. What came before its answer
// took no time. The caller holds mu.
func (p *probe) join(position string) {
	at, one := p.answered[position]
	there, both := p.arrived[position]
	if one && both {
		_ = p.feed.RecordValue(max(1, int64(there.Sub(at)))) // within range
		delete(p.answered, position)
		delete(p.arrived, position)
	}
}

// watchLag notes the most that anything was behind.
func (v *visible) watchLag(ctx context.Context, conn *nats.Conn) error {
	tick := time.NewTicker(lagEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		name, lag, err := furthestBehind(conn)
		if err != nil {
			return err
		}
		if lag > v.LagEvents {
			v.LagOf, v.LagEvents = name, lag
		}
	}
}

// furthestBehind is the projection with the most lag. The buckets write each value once in
// a while and count by commits.
func furthestBehind(conn *nats.Conn) (name string, events uint64, err error) {
	now, err := askStatus(conn)
	if err != nil {
		return "", 0, err
	}
	for _, p := range now.Projections {
		if p.Failure != "" {
			return "", 0, fmt.Errorf("%s failed: %s", p.Name, p.Failure)
		}
		if p.LagEvents >= events {
			name, events = p.Name, p.LagEvents
		}
	}
	return name, events, nil
}

// behind is an error while a projection is behind the log.
func behind(conn *nats.Conn, name string) error {
	now, err := askStatus(conn)
	if err != nil {
		return err
	}
	for _, p := range now.Projections {
		if p.Name == name && p.LagEvents == 0 {
			return nil
		}
	}
	return fmt.Errorf("the %s is behind the log", name)
}

// status is what the benchmarks look at of ledger.status.
type status struct {
	Position    string `json:"position"`
	Projections []struct {
		Name      string `json:"name"`
		LagEvents uint64 `json:"lag_events"`
		Failure   string `json:"failure"`
	} `json:"projections"`
	Webhooks struct {
		Pending     uint64 `json:"pending"`
		Behind      int    `json:"behind"`
		Delivered   uint64 `json:"delivered"`
		Failed      uint64 `json:"failed"`
		RecordsLost uint64 `json:"records_lost"`
	} `json:"webhooks"`
}

func askStatus(conn *nats.Conn) (*status, error) {
	reply, err := conn.Request("keyledger.query._.ledger.status", nil, load.DrainTime)
	if err != nil {
		return nil, fmt.Errorf("ask for the status: %w", err)
	}
	s := new(status)
	if err := json.Unmarshal(reply.Data, s); err != nil {
		return nil, fmt.Errorf("ask for the status: %w", err)
	}
	if len(s.Projections) == 0 {
		return nil, errors.New("the status has no projections")
	}
	return s, nil
}
