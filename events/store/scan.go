package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	scanWindowMin = 64      // stream sequences in the shortest window
	scanWindowMax = 1 << 16 // and in the longest
	scanBatch     = 256     // messages in one answer
)

// Scan reads the messages of some subjects of a stream backwards. JetStream reads a
// filtered stream forwards only: so it reads windows, each before the other, and longer
// ones where they hold few of these messages.
type Scan struct {
	conn        *nats.Conn
	stream      string
	filter      string
	first, last uint64 // sequences of the stream
}

// Scanned is a message that a Scan came to.
type Scanned struct {
	Sequence uint64    // in the stream
	Stored   time.Time // when
	Subject  string
	Header   nats.Header // with some of NATS beside its own
	Data     []byte
}

// NewScan makes a scan of what a stream holds now on the subjects that filter matches.
func NewScan(ctx context.Context, js jetstream.JetStream, stream, filter string) (*Scan, error) {
	found, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", stream, err)
	}
	state := found.CachedInfo().State
	return &Scan{conn: js.Conn(), stream: stream, filter: filter, first: max(state.FirstSeq, 1), last: state.LastSeq}, nil
}

// Backwards calls f for each message before a sequence, newest first, until it returns
// false or an error; that is expected after some few.
func (s *Scan) Backwards(ctx context.Context, before uint64, few int, f func(*Scanned) (more bool, err error)) error {
	shortest := uint64(max(2*few, scanWindowMin))
	length := shortest
	for to := min(before, s.last+1); to > s.first; {
		from := s.first
		if to-s.first > length {
			from = to - length
		}
		var found []*Scanned
		err := s.Window(ctx, from, to, func(m *Scanned) error { found = append(found, m); return nil })
		if err != nil {
			return err
		}
		for i := len(found) - 1; i >= 0; i-- {
			if more, err := f(found[i]); err != nil || !more {
				return err
			}
		}
		if uint64(len(found)) < length/4 {
			length = min(2*length, scanWindowMax)
		} else {
			length = max(length/2, shortest)
		}
		to = from
	}
	return nil
}

// Since returns the sequence of the first message that was stored at a time or later, the
// largest there is where none was.
func (s *Scan) Since(ctx context.Context, at time.Time) (first uint64, err error) {
	first = math.MaxUint64
	request := fmt.Appendf(nil, `{"start_time":%q,"batch":1,"next_by_subj":"%s"}`, at.UTC().Format(time.RFC3339Nano), s.filter)
	_, err = s.ask(ctx, request, math.MaxUint64, func(m *Scanned) error { first = m.Sequence; return nil })
	if err != nil {
		return 0, fmt.Errorf("read stream %s since %s: %w", s.stream, at.UTC().Format(time.RFC3339), err)
	}
	return first, nil
}

// Window calls f for each message from one sequence up to another, exclusive, in order.
func (s *Scan) Window(ctx context.Context, from, to uint64, f func(*Scanned) error) error {
	for from < to {
		next, err := s.batch(ctx, from, to, f)
		if err != nil {
			return fmt.Errorf("read stream %s from %d: %w", s.stream, from, err)
		}
		from = next
	}
	return nil
}

// batch asks for a batch of messages and returns the sequence from which to ask on, to if
// nothing is left before it.
func (s *Scan) batch(ctx context.Context, from, to uint64, f func(*Scanned) error) (next uint64, err error) {
	return s.ask(ctx, fmt.Appendf(nil, `{"seq":%d,"batch":%d,"next_by_subj":"%s"}`, from, scanBatch, s.filter), to, f)
}

// ask makes a direct get (ADR-31) of a batch of messages before a sequence.
func (s *Scan) ask(ctx context.Context, request []byte, to uint64, f func(*Scanned) error) (next uint64, err error) {
	inbox := s.conn.NewInbox()
	sub, err := s.conn.SubscribeSync(inbox)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, sub.Unsubscribe()) }()
	if err := s.conn.PublishRequest(jetstream.DefaultAPIPrefix+"DIRECT.GET."+s.stream, inbox, request); err != nil {
		return 0, err
	}
	for {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return 0, err
		}
		switch status := msg.Header.Get("Status"); status {
		case "":
		case "404": // nothing from there on
			return to, nil
		case "204": // the end of the batch
			if msg.Header.Get("Nats-Num-Pending") == "0" {
				next = to
			}
			return next, nil
		default:
			return 0, fmt.Errorf("status %s %s", status, msg.Header.Get("Description"))
		}
		m, err := scanned(msg)
		if err != nil {
			return 0, err
		}
		if m.Sequence >= to {
			return to, nil
		}
		if err := f(m); err != nil {
			return 0, fmt.Errorf("message %d: %w", m.Sequence, err)
		}
		next = m.Sequence + 1
	}
}

// scanned reads the headers of a direct get's answer.
func scanned(msg *nats.Msg) (*Scanned, error) {
	sequence, err := strconv.ParseUint(msg.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("sequence of a message: %w", err)
	}
	stored, err := time.Parse(time.RFC3339Nano, msg.Header.Get(jetstream.TimeStampHeaer))
	if err != nil {
		return nil, fmt.Errorf("time of message %d: %w", sequence, err)
	}
	return &Scanned{Sequence: sequence, Stored: stored, Subject: msg.Header.Get(jetstream.SubjectHeader), Header: msg.Header, Data: msg.Data}, nil
}
