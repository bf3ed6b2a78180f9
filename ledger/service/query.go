package service

import (
	"context"
	"slices"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/writer"
)

// strict is the value of HeaderConsistency that sees all that was acknowledged before.
const strict = "strict"

// query handles keyledger.query.<account>.<noun>.<verb>.
func (s *Service) query(r *request) {
	if r.reply == "" {
		return
	}
	answer, account, err := s.decodeQuery(r)
	if err != nil {
		r.fail(err)
		return
	}
	s.run(r, s.quick, account, answer, s.await)
}

// run answers a request on a goroutine of its own, once what it waits for is there and it is
// its turn in a pool.
func (s *Service) run(r *request, in *pool, account string, answer QueryFunc, await func(context.Context, *request, *turn) *events.Error) {
	go func() {
		ctx, cancel := context.WithDeadline(context.Background(), r.deadline)
		defer cancel()
		t := &turn{s: s, account: account}
		defer t.end()
		err := await(ctx, r, t)
		if err == nil {
			err = t.enter(ctx, in)
		}
		if err != nil {
			r.fail(err)
			return
		}
		result, at, err := answer(store.WithTurn(ctx, t), account, r.body)
		if err != nil {
			r.fail(err)
			return
		}
		body, encodeErr := events.Encode(result)
		r.answerEncoded(body, encodeErr, at, false)
	}()
}

func (s *Service) decodeQuery(r *request) (QueryFunc, string, *events.Error) {
	if len(r.body) > MaxCommandBytes {
		return nil, "", errTooLarge(len(r.body), MaxCommandBytes)
	}
	account, verb, ok := parseSubject(r.subject, store.SubjectQuery)
	if !ok {
		return nil, "", events.Errorf(events.InvalidArgument, "the subject must be keyledger.query.<account>.<noun>.<verb>")
	}
	answer := s.cfg.Queries[verb]
	if answer == nil {
		known := make([]string, 0, len(s.cfg.Queries))
		for name := range s.cfg.Queries {
			known = append(known, name)
		}
		slices.Sort(known)
		return nil, "", errUnknownVerb("query", verb, known)
	}
	if account != "_" && !ledger.ValidAccount(account) {
		return nil, "", events.Errorf(events.InvalidArgument, "an account id has 1 to 64 of A-Z a-z 0-9 _ -")
	}
	return answer, account, nil
}

// await makes a query wait for the position its headers ask for.
func (s *Service) await(ctx context.Context, r *request, t *turn) *events.Error {
	var sequence uint64
	if text := r.header.Get(store.HeaderMinPosition); text != "" {
		at, err := events.ParsePosition(text)
		if err != nil || at.Partition != 0 {
			return events.Errorf(events.InvalidArgument, "%s must be a position of partition 0 such as 0:42.0", store.HeaderMinPosition)
		}
		// Who was told a position was told it after the end had moved there: to wait for
		// anything behind it is to wait for what may never be.
		if end := s.cfg.End(); at.Sequence > end.Sequence {
			return events.Errorf(events.Unavailable, "%s %s is beyond the log's end %s; give a position that an answer bore", store.HeaderMinPosition, at, end.Position())
		}
		sequence = at.Sequence
	}
	switch r.header.Get(store.HeaderConsistency) {
	case "":
	case strict:
		if err := t.Wait(ctx); err != nil {
			return err
		}
		at, err := s.barrier(ctx, r)
		if err != nil {
			return err
		}
		sequence = max(sequence, at.Sequence)
	default:
		return events.Errorf(events.InvalidArgument, "%s must be strict or left out", store.HeaderConsistency)
	}
	if sequence == 0 {
		return nil
	}
	if err := t.Wait(ctx); err != nil {
		return err
	}
	if err := s.cfg.WaitFor(ctx, sequence); err != nil {
		return events.Errorf(events.Unavailable, "the view did not reach position 0:%d in time; try again", sequence)
	}
	return nil
}

// barrier goes through the writer and returns what was acknowledged before it.
func (s *Service) barrier(ctx context.Context, r *request) (events.Position, *events.Error) {
	replies := make(chan writer.Reply, 1)
	s.cfg.Writer.Submit(&writer.Request{Deadline: r.deadline, Done: func(reply *writer.Reply) { replies <- *reply }})
	select {
	case reply := <-replies:
		return reply.Position, reply.Err
	case <-ctx.Done():
		return events.Position{}, events.Errorf(events.Unavailable, "the writer did not answer in time; try again")
	}
}
