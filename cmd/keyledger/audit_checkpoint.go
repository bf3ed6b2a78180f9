package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events/store/proof"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/ledger/server"
)

func auditKey(a *app) *cobra.Command {
	return a.verb(&cobra.Command{
		Use:   "key",
		Short: "Print the public key that checkpoints are checked with",
		Long: `Print the public key of the ledger's checkpoints, as C2SP signed-note writes it. Publish
it where nobody can change it unseen: audit check needs it and nothing else. A ledger that
was restored from an export has a new key; keep the old ones for what they signed.`,
		Example: "  keyledger audit key\n  keyledger audit key --json",
		Args:    arguments(),
	}, func(cmd *cobra.Command, _ []string) error {
		return a.with(cmd, func(ctx context.Context, c *client.Client) error {
			reply, err := c.Query(ctx, "_", "ledger.status", nil)
			if err != nil {
				return err
			}
			var status server.Status
			if err := reply.Decode(&status); err != nil {
				return err
			}
			if a.json {
				return printJSON(a.out, map[string]string{"key": status.Checkpoints.Key})
			}
			_, err = a.out.Write([]byte(status.Checkpoints.Key + "\n"))
			return err
		})
	})
}

func auditCheckpoint(a *app) *cobra.Command {
	var out outFile
	c := a.verb(&cobra.Command{
		Use:   "checkpoint",
		Short: "Print a signed checkpoint of the log as it is",
		Long: `Print a signed checkpoint of the log as it is (C2SP tlog-checkpoint): origin, number of
commits, root of the Merkle tree over them, hash, time and epoch of the newest, and the
signature. Whoever keeps one can later ask for a proof that the log still begins with it (audit prove
--consistency). The server signs within a minute of anything new, and publishes what it
signs on keyledger.checkpoints.0; stream KEYLEDGER_CHECKPOINTS_0 holds the history.`,
		Example: "  keyledger audit checkpoint\n  keyledger audit checkpoint --out monday.checkpoint",
		Args:    arguments(),
	}, func(cmd *cobra.Command, _ []string) error {
		return a.with(cmd, func(ctx context.Context, c *client.Client) error {
			reply, err := c.Query(ctx, "_", "checkpoint.get", nil)
			if err != nil {
				return err
			}
			var newest server.SignedCheckpoint
			if err := reply.Decode(&newest); err != nil {
				return err
			}
			v, err := proof.ParseVerifier(newest.Key)
			if err != nil {
				return err
			}
			if _, err := proof.OpenCheckpoint([]byte(newest.Signed), v); err != nil {
				return err
			}
			switch {
			case out.path != "":
				return out.write(a, []byte(newest.Signed), written{SignedUpTo: newest.Checkpoint.Position().String()})
			case a.json:
				return a.show(reply, nil, nil)
			}
			_, err = a.out.Write([]byte(newest.Signed))
			return err
		})
	})
	out.flags(c.Flags())
	return c
}
