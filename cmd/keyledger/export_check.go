package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/events/store/proof"
	"github.com/keyledger/keyledger/ledger/server"
)

func exportCheck(a *app) *cobra.Command {
	var key, held string
	c := a.verb(&cobra.Command{
		Use:   "check FILE",
		Short: "Check an export without restoring it",
		Long: `Check an export without restoring it: that it is whole, and every commit in it, and that
its log has the signed checkpoint in it. It ends with exit code 1 and names the first bad
position if any. sha256 is that of the whole file, as sha256sum prints it; position and hash
are what "audit verify" printed of the ledger when it ended there. FILE - is standard input.

Who can write the file can write another log with other hashes. With --key, the ledger's
public key, it must have signed the checkpoint in the file, or with --checkpoint the one
that you kept, which the log must have: all up to "proved up to" is then what was signed.`,
		Example: `  keyledger export check ledger.klx
  keyledger export check ledger.klx --key "$(cat ledger.key)"
  keyledger export check ledger.klx --key "$(cat ledger.key)" --checkpoint monday.checkpoint`,
		Args: arguments("FILE"),
	}, func(cmd *cobra.Command, args []string) error {
		if err := notEmpty(cmd, "key", "checkpoint"); err != nil {
			return err
		}
		known, err := a.knownCheckpoint(key, held)
		if err != nil {
			return err
		}
		in, err := a.openInput(args[0])
		if err != nil {
			return err
		}
		defer in.Close()
		found, err := a.checkExport(cmd.Context(), in, known)
		if err == nil && key != "" && known == nil {
			err = found.verify(key)
		}
		if err != nil {
			return fmt.Errorf("check %s: %w", args[0], err)
		}
		if known != nil {
			found.ProvedUpTo = known.Position().String()
		}
		found.File = args[0]
		return found.show(a.out, a.json)
	})
	c.Flags().StringVar(&key, "key", "", "the ledger's public `KEY`, which must have signed")
	c.Flags().StringVar(&held, "checkpoint", "", "a `FILE` with a checkpoint that the log must have")
	return c
}

// knownCheckpoint reads a checkpoint that key signed, nil where none is given.
func (a *app) knownCheckpoint(key, held string) (*proof.Checkpoint, error) {
	if held == "" {
		return nil, nil
	}
	if key == "" {
		return nil, usagef("--checkpoint needs --key: the ledger's public key, from where it was published")
	}
	text, err := a.readProof(held)
	if err != nil {
		return nil, err
	}
	found, err := checkFile(text, key)
	if err == nil && found.kind() != "checkpoint" {
		err = errors.New("it is a proof; give a file of audit checkpoint")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", held, err)
	}
	return found.checkpoint, nil
}

// verify checks who signed the checkpoint in an export.
func (e *exported) verify(key string) error {
	v, err := proof.ParseVerifier(key)
	if err != nil {
		return usagef("--key: %v", err)
	}
	if e.Checkpoint == "" {
		return errors.New("nothing signed is in it; give a checkpoint of its ledger with --checkpoint")
	}
	if _, err := proof.OpenCheckpoint([]byte(e.Checkpoint), v); err != nil {
		return err
	}
	e.ProvedUpTo = e.SignedUpTo
	return nil
}

func (a *app) checkExport(ctx context.Context, in io.Reader, known *proof.Checkpoint) (*exported, error) {
	p := a.newProgress()
	p.begin("checking commits")
	defer p.clear()
	found, err := server.CheckExport(in, known, func(c *store.Commit, last uint64) error {
		p.at(int(c.Sequence), int(last))
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	return newExported(found), nil
}
