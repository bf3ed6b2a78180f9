package main

import (
	"bufio"
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// partition is the one there is for now.
const partition = 0

func auditCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "audit",
		Short: "Replay, verify and prove the log, and report on it",
		Long: `Replay, verify and prove the log, and report on it. Replay and verify read the stored
commits themselves, not a view of them, and check each one: its hash, that it follows the
one before, and that none is missing. What prove writes can be checked by anybody who has
the public key.`,
		Example: "  keyledger audit verify\n  keyledger audit replay --account acme --type 'credit.*'\n  keyledger audit prove 0:42 --out 42.tlog-proof",
	}, auditReplay(a), auditReprice(a), auditReport(a), auditVerify(a), auditProve(a), auditCheck(a), auditCheckpoint(a), auditKey(a))
}

// openLog opens the log and looks up its end.
func (a *app) openLog(cmd *cobra.Command) (log store.Log, last uint64, closeLog func(), err error) {
	conn, err := a.connect(cmd)
	if err != nil {
		return nil, 0, nil, err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
	defer cancel()
	if log, err = openLogOn(ctx, conn); err == nil {
		last, err = log.Last(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, 0, nil, err
	}
	return log, last, conn.Close, nil
}

// openLogOn opens the log over a connection.
func openLogOn(ctx context.Context, conn *nats.Conn) (store.Log, error) {
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	log, err := store.OpenJetStream(ctx, js, partition)
	if err != nil {
		return nil, fmt.Errorf("%w; is keyledger on this NATS server (keyledger serve)?", err)
	}
	return log, nil
}

func auditReplay(a *app) *cobra.Command {
	var f replayFlags
	var to replayTo
	var raw bool
	c := a.verb(&cobra.Command{
		Use:   "replay",
		Short: "Print history, one event a line",
		Long: `Print history: one event a line, oldest first, as a CloudEvent in JSON, with the same
members that webhooks and the feed have.

--raw prints one commit a line instead, whole, that holds an event which fits:
  {"partition","sequence","epoch","writer","nonce","previous_sequence","previous_hash",
   "ordinal","time","hash",
   "entries":[{"command_id","receipt","command","input_hash","account","actor","outcome",
     "events":[the CloudEvents of the entry]}]}
A commit without entries is the start of a writer's epoch. Its hash is that of the stored
bytes, so it cannot be computed from this JSON: audit verify checks it.

--to-subject publishes the events on NATS instead, as the feed has them: the same ids,
headers (CloudEvents in binary mode) and data. After SUBJECT.> the rest of the subject is
the feed's, else all are on one subject. --speed is how fast: so many events a second, or
with an x at the end so many times as fast as they came. The NATS server is that of the
ledger, where the subject must begin with ` + store.SubjectReplay + `, or --to-server or --to-context.`,
		Example: `  keyledger audit replay --account acme --type 'credit.*' --from-time 2026-01-01
  keyledger audit replay --key key_01J8Z5T0XKQ4R7N2M3V6W9Y1AB
  keyledger audit replay --from-position 0:40 --to-position 0:42.3 --raw
  keyledger audit replay --account acme --to-subject 'replay.acme.>' --speed 60x
  keyledger audit replay --to-subject imported.events --to-server nats://10.0.0.7:4222 --speed 5000`,
		Args: arguments(),
	}, func(cmd *cobra.Command, _ []string) error {
		filter, err := f.filter()
		if err != nil {
			return err
		}
		if err := to.validate(cmd, raw); err != nil {
			return err
		}
		log, last, closeLog, err := a.openLog(cmd)
		if err != nil {
			return err
		}
		defer closeLog()
		if to.subject != "" {
			err = a.replayToSubject(cmd, log, last, filter, &to)
		} else {
			err = a.replay(cmd.Context(), log, last, filter, raw)
		}
		if err == nil && filter.passed == 0 {
			if err = a.known(cmd, f.account); err == nil {
				a.note("no event passes")
			}
		}
		return err
	})
	flags := c.Flags()
	flags.StringVar(&f.account, "account", "", "only events of this `ACCOUNT`")
	flags.StringVar(&f.key, "key", "", "only events of this `KEY`, debits, refunds and holds made with it included")
	flags.StringVar(&f.eventType, "type", "*", "only events of this `TYPE`, such as credit.debited or credit.*")
	flags.StringVar(&f.fromPosition, "from-position", "", "first `POSITION`, such as 0:42.0 or 0:42")
	flags.StringVar(&f.toPosition, "to-position", "", "last `POSITION`, included")
	flags.StringVar(&f.fromTime, "from-time", "", "`WHEN` to begin: "+whenText)
	flags.StringVar(&f.toTime, "to-time", "", endIncluded)
	flags.StringVar(&f.environment, "environment", "", "only events of this `ENVIRONMENT`, test or live")
	flags.BoolVar(&raw, "raw", false, "print commits")
	to.flags(flags)
	completeWith(c, "type", eventTypes())
	completeWith(c, "environment", []string{events.Test, events.Live})
	return c
}

// replay prints what the filter lets pass.
func (a *app) replay(ctx context.Context, log store.Log, last uint64, filter *replayFilter, raw bool) error {
	print := printEvents
	if raw {
		print = printCommit
	}
	w := bufio.NewWriterSize(a.out, 64<<10)
	quiet := isTerminal(a.out) // lines that scroll by are progress enough
	err := a.eachCommit(ctx, log, last, filter, quiet, func(c *store.Commit) error { return print(w, c, filter) })
	if flushErr := w.Flush(); err == nil {
		err = flushErr
	}
	return err
}

// eachCommit calls f for the commits in which something may pass.
func (a *app) eachCommit(ctx context.Context, log store.Log, last uint64, filter *replayFilter, quiet bool, f func(*store.Commit) error) error {
	chain, last, err := filter.bounds(ctx, log, last)
	if err != nil {
		return err
	}
	p := a.newProgress()
	p.live = p.live && !quiet
	p.begin("replaying commits")
	defer p.clear()
	err = store.ReadChecked(ctx, log, &chain, last, func(c *store.Commit) error {
		p.at(int(c.Sequence), int(last))
		if err := f(c); err != nil {
			return err
		}
		return ctx.Err()
	})
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// replayFlags are the filters as they were given.
type replayFlags struct {
	account, key, eventType, environment       string
	fromPosition, toPosition, fromTime, toTime string
}

// filter checks them.
func (f *replayFlags) filter() (*replayFilter, error) {
	out := &replayFilter{account: f.account, key: f.key, eventType: f.eventType, environment: f.environment}
	if err := checkAccount(f.account); err != nil {
		return nil, err
	}
	if e := f.environment; e != "" && e != events.Test && e != events.Live {
		return nil, usagef("--environment %q must be test or live", e)
	}
	if !events.ValidFilter(f.eventType) {
		return nil, usagef("--type %q fits no event: it must be a type such as credit.debited, <noun>.* or *", f.eventType)
	}
	var err error
	now := time.Now()
	if out.from, err = position("from-position", f.fromPosition); err != nil {
		return nil, err
	}
	if out.to, err = position("to-position", f.toPosition); err != nil {
		return nil, err
	}
	if out.fromTime, err = parseAnyTime("from-time", f.fromTime, now); err != nil {
		return nil, err
	}
	out.toTime, err = parseAnyTime("to-time", f.toTime, now)
	return out, err
}

// position reads a flag with a position; the zero one stands for none.
func position(flag, text string) (events.Position, error) {
	if text == "" {
		return events.Position{Index: events.NoIndex}, nil
	}
	at, err := events.ParsePosition(text)
	if err != nil || at.Partition != partition || at.Sequence == 0 {
		return at, usagef("--%s %q must be a position such as 0:42.0, or 0:42 for a whole commit", flag, text)
	}
	return at, nil
}
