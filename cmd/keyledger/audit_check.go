package main

import (
	"bytes"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/events/store/proof"
)

func auditCheck(a *app) *cobra.Command {
	var key, at, held string
	c := a.verb(&cobra.Command{
		Use:   "check FILE",
		Short: "Check a proof or checkpoint, without any server",
		Long: `Check a file of audit prove or audit checkpoint against the ledger's published public key.
It needs no server. Of a commit it prints the events, one a line, as audit replay does, and
on standard error what was proved. A file in which anything was changed is refused with
exit code 1, with the position where it is known.

--position is the position you were told: the proof must be of that commit, and only that
event is printed. --checkpoint is one that you got yourself: the proof must be of it, or
for a proof of consistency begin with it. FILE - is standard input.`,
		Example: `  keyledger audit check 42.tlog-proof --key keyledger/01J8Z5T0XKQ4R7N2M3V6W9Y1AB/0+5f1c0de2+AX…
  keyledger audit check 42.tlog-proof --key "$(cat ledger.key)" --position 0:42.0 --json
  keyledger audit check week.proof --key "$(cat ledger.key)" --checkpoint monday.checkpoint`,
		Args: arguments("FILE"),
	}, func(cmd *cobra.Command, args []string) error {
		if err := notEmpty(cmd, "position", "checkpoint"); err != nil {
			return err
		}
		if key == "" {
			return usagef("--key is missing: the ledger's public key as keyledger audit key prints it, from where it was published")
		}
		want, err := position("position", at)
		if err != nil {
			return err
		}
		file, err := a.readProof(args[0])
		if err != nil {
			return err
		}
		found, err := checkFile(file, key)
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		if err := found.expect(want); err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		if held != "" {
			if err := a.expectCheckpoint(found, held, key); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
		}
		return a.showChecked(found, want)
	})
	flags := c.Flags()
	flags.StringVar(&key, "key", "", "the ledger's public `KEY`")
	flags.StringVar(&at, "position", "", "the `POSITION` that the proof must be of, such as 0:42.0 or 0:42")
	flags.StringVar(&held, "checkpoint", "", "a `FILE` with the checkpoint that the proof must be of")
	return c
}

// checked is what a file has proved.
type checked struct {
	checkpoint *proof.Checkpoint // that all is proved against
	old        *proof.Checkpoint // of consistency: what it begins with
	commit     *store.Commit     // of inclusion
}

// checkFile checks a file against a public key.
func checkFile(file []byte, key string) (*checked, error) {
	v, err := proof.ParseVerifier(key)
	if err != nil {
		return nil, usagef("--key: %v", err)
	}
	out := &checked{}
	if proof.IsCheckpoint(file) {
		out.checkpoint, err = proof.OpenCheckpoint(file, v)
		return out, err
	}
	decoded, err := proof.Decode(file)
	if err != nil {
		return nil, err
	}
	switch p := decoded.(type) {
	case *proof.Inclusion:
		out.commit, out.checkpoint, err = p.Check(v)
	case *proof.Consistency:
		out.old, out.checkpoint, err = p.Check(v)
	}
	return out, err
}

// kind is what kind of file it was.
func (c *checked) kind() string {
	switch {
	case c.commit != nil:
		return "inclusion"
	case c.old != nil:
		return "consistency"
	}
	return "checkpoint"
}

// expect compares the position that was proved with the one that should be, if any.
func (c *checked) expect(want events.Position) error {
	switch {
	case want.Sequence == 0:
		return nil
	case c.commit == nil:
		return usagef("--position is for the proof of a commit")
	case c.commit.Sequence != want.Sequence:
		return &proof.Refusal{Position: want, Reason: fmt.Sprintf("the proof is of the commit %d:%d", c.commit.Partition, c.commit.Sequence)}
	case want.Index != events.NoIndex && want.Index >= c.commit.EventCount():
		return &proof.Refusal{Position: want, Reason: fmt.Sprintf("the commit has %s", c.commit.CountInWords())}
	}
	return nil
}

// expectCheckpoint compares the checkpoint of a proof with the one in a file.
func (a *app) expectCheckpoint(c *checked, held, key string) error {
	text, err := a.readProof(held)
	if err != nil {
		return err
	}
	own, err := checkFile(text, key)
	if err != nil {
		return fmt.Errorf("%s: %w", held, err)
	}
	base := c.checkpoint
	if c.old != nil {
		base = c.old
	}
	if own.commit != nil || own.old != nil || *own.checkpoint != *base {
		return &proof.Refusal{Position: base.Position(), Reason: fmt.Sprintf("the proof is of another checkpoint than that in %s", held)}
	}
	return nil
}

// checkedJSON is what audit check prints with --json.
type checkedJSON struct {
	Proved     bool              `json:"proved"`
	Kind       string            `json:"kind"`              // inclusion, consistency or checkpoint
	Position   string            `json:"position,omitzero"` // of the commit
	Hash       *store.Hash       `json:"hash,omitzero"`     // of the commit
	Checkpoint *proof.Checkpoint `json:"checkpoint"`
	BeginsWith *proof.Checkpoint `json:"begins_with,omitzero"`
	Events     []jsontext.Value  `json:"events,omitzero"`
}

// showChecked prints what was proved.
func (a *app) showChecked(c *checked, want events.Position) error {
	out := checkedJSON{Proved: true, Kind: c.kind(), Checkpoint: c.checkpoint, BeginsWith: c.old}
	if c.commit != nil {
		chain := store.ChainAt(c.commit)
		out.Position, out.Hash, out.Events = chain.Position().String(), &chain.Hash, []jsontext.Value{}
		err := c.commit.Each(func(e *events.CloudEvent) error {
			if want.Sequence != 0 && want.Index != events.NoIndex && e.Position.Index != want.Index {
				return nil
			}
			body, err := e.Structured()
			out.Events = append(out.Events, body)
			return err
		})
		if err != nil {
			return err
		}
	}
	if a.json {
		return printJSON(a.out, out)
	}
	var lines bytes.Buffer
	for _, body := range out.Events {
		lines.Write(append(body, '\n'))
	}
	if _, err := a.out.Write(lines.Bytes()); err != nil {
		return err
	}
	t := newTable(a.errOut)
	if c.commit == nil {
		t = newTable(a.out)
	}
	c.rows(t, &out)
	return t.w.Flush()
}

// rows says what was proved to people.
func (c *checked) rows(t *table, out *checkedJSON) {
	switch {
	case c.commit != nil:
		t.row("proved", "commit "+out.Position+" is in the log")
		t.row("hash", out.Hash)
		t.row("time", c.commit.Time)
		t.row("events", len(out.Events))
	case c.old != nil:
		t.row("proved", "the log up to "+c.checkpoint.Position().String()+" begins with that up to "+c.old.Position().String())
		t.row("its root", c.old.Root)
	default:
		t.row("proved", "the checkpoint is signed by this key")
	}
	t.row("signed up to", c.checkpoint.Position())
	t.row("with root", c.checkpoint.Root)
	t.row("at", c.checkpoint.Time)
	t.row("by", c.checkpoint.Origin)
}
