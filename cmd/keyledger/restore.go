package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger/server"
)

func restoreCommand(a *app) *cobra.Command {
	cfg := server.RestoreConfig{}
	var known string
	c := a.verb(&cobra.Command{
		Use:   "restore FILE",
		Short: "Make a data directory of an export",
		Long: `Make a data directory of an export: the same ledger, every commit checked on the way. The
directory must be empty or missing. If restore is stopped, "serve" refuses the directory,
and restore can be run on it again. FILE - is standard input.

The ledger goes on in a new epoch where the export ended: keys work, retries of old command
ids get their first answers, events have the positions and feed sequences they had, and
webhooks go on from what was delivered when the export was made. There is a new operator's
credential. Never let the ledger that was exported serve again beside it: the two would go
on differently under one id.

The key that seals webhook secrets is not in an export. Give a copy of the old seal.key with
--seal-key, or put it into the directory, or set ` + envSealKey + ` for "serve"; without
it "serve" refuses to start.

The restored ledger signs checkpoints with a new key, which its first start makes and
logs: publish that, and keep the old one for what it signed. The old key is refused, for
the ledger that was exported may have signed with it what is not in the export. Only if you
have the newest checkpoint that it ever signed, and the export reaches it, can it sign on:
give the checkpoint with --checkpoint, and put the old checkpoint.key into the directory or
set ` + envCheckpointKey + `. After a stop of the old server, of an export made with
--data-dir, that is the checkpoint that "export check --json" prints.`,
		Example: `  keyledger restore ledger.klx --data-dir /var/lib/keyledger --seal-key backup/seal.key
  keyledger restore ledger.klx --data-dir /mnt/new --log-max-bytes 500GiB`,
		Args: arguments("FILE"),
	}, func(cmd *cobra.Command, args []string) error {
		if err := notEmpty(cmd, "checkpoint", "seal-key"); err != nil {
			return err
		}
		in, err := a.openInput(args[0])
		if err != nil {
			return err
		}
		defer in.Close()
		if known != "" {
			if cfg.Checkpoint, err = a.readProof(known); err != nil {
				return err
			}
		}
		p := a.newProgress()
		p.begin("restoring commits")
		cfg.Each = func(c *store.Commit, last uint64) { p.at(int(c.Sequence), int(last)) }
		cfg.Logger = a.warnings()
		found, err := server.Restore(cmd.Context(), in, cfg)
		p.clear()
		if err != nil {
			return fmt.Errorf("restore %s: %w", args[0], err)
		}
		out := newExported(found)
		out.File, out.DataDir = args[0], cfg.DataDir
		if err := out.show(a.out, a.json); err != nil {
			return err
		}
		a.restoreNotes(cfg.DataDir, known, out)
		return nil
	})
	flags := c.Flags()
	flags.StringVar(&cfg.DataDir, "data-dir", defaultDataDir, "`DIR` to make, empty or missing")
	flags.StringVar(&cfg.SealKeyFile, "seal-key", "", "a copy of the old seal.key: a `FILE`")
	flags.StringVar(&known, "checkpoint", "", "the newest checkpoint that the old key signed, which then signs on: a `FILE`")
	flags.Var((*byteSize)(&cfg.LogBytesMax), "log-max-bytes", "`SIZE` the log may have, such as 500GiB")
	withEnvironment(flags, "data-dir", "log-max-bytes")
	withDefault(flags, "log-max-bytes", "44 % of the volume")
	return c
}

// restoreNotes says which keys a restored ledger wants.
func (a *app) restoreNotes(dir, known string, out *exported) {
	if _, err := os.Stat(filepath.Join(dir, "seal.key")); err != nil && os.Getenv(envSealKey) == "" {
		a.note("the seal key with id %s is not there: put that seal.key into %s, or set %s; without it keyledger serve will not start", out.SealKey, dir, envSealKey)
	}
	if known != "" {
		a.note("checkpoints are signed with the old key: put that checkpoint.key into %s, or set %s; without it keyledger serve will not start", dir, envCheckpointKey)
		return
	}
	a.note("checkpoints will be signed with a new key, which the first start makes: publish what keyledger audit key prints then; do not use the old checkpoint.key, and unset %s if it holds it", envCheckpointKey)
}
