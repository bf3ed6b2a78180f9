package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/keyledger/keyledger/events/store/proof"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/ledger/server"
)

func auditProve(a *app) *cobra.Command {
	var out outFile
	var consistency bool
	c := a.verb(&cobra.Command{
		Use:   "prove POSITION | --consistency OLD [NEW]",
		Short: "Write a file that proves what the log holds",
		Long: `Write a file that proves that the commit at a position is in the log that the newest
checkpoint signs, for audit check, which needs no server. It holds the commit whole, with
all its events, whosever they are: mind who gets it.

With --consistency the file proves that the log of the checkpoint in file NEW, or as it is
now, begins with that of the checkpoint in file OLD: nothing was changed or taken out. One
of the two can be -, standard input. With --out - what was written is said on standard
error.`,
		Example: `  keyledger audit prove 0:42 --out 42.tlog-proof
  keyledger audit prove --consistency monday.checkpoint --out since-monday.proof
  keyledger audit prove --consistency monday.checkpoint friday.checkpoint --out week.proof`,
	}, func(cmd *cobra.Command, args []string) error {
		if out.path == "" {
			return usagef("--out FILE is missing: where the proof shall be written")
		}
		verb, body, err := a.proofQuery(consistency, args)
		if err != nil {
			return err
		}
		return a.with(cmd, func(ctx context.Context, c *client.Client) error {
			reply, err := c.Query(ctx, "_", verb, body)
			if err != nil {
				return err
			}
			var answer server.ProofFile
			if err := reply.Decode(&answer); err != nil {
				return err
			}
			// Nothing is written that audit check would refuse.
			if _, err := checkFile([]byte(answer.Proof), answer.Key); err != nil {
				return err
			}
			said := written{SignedUpTo: answer.Position}
			if !consistency {
				said.Position = args[0]
			}
			return out.write(a, []byte(answer.Proof), said)
		})
	})
	c.Args = func(cmd *cobra.Command, args []string) error {
		if consistency {
			return arguments([]string{"OLD", "NEW"}[:max(1, min(len(args), 2))]...)(cmd, args)
		}
		return arguments("POSITION")(cmd, args)
	}
	c.Flags().BoolVar(&consistency, "consistency", false, "prove that a log begins with an earlier one; the arguments are files of audit checkpoint")
	out.flags(c.Flags())
	return c
}

// proofQuery is the query that a command line means.
func (a *app) proofQuery(consistency bool, args []string) (verb string, body any, err error) {
	if !consistency {
		at, err := position("position", args[0])
		if err != nil {
			return "", nil, usagef("%q must be a position such as 0:42.0, or 0:42 for a whole commit", args[0])
		}
		return "proof.get", map[string]string{"position": at.String()}, nil
	}
	members := map[string]string{}
	for i, path := range args {
		text, err := a.readProof(path)
		if err != nil {
			return "", nil, err
		}
		if !proof.IsCheckpoint(text) {
			return "", nil, fmt.Errorf("%s is no checkpoint; audit checkpoint --out FILE writes one", path)
		}
		members[[]string{"old", "new"}[i]] = string(text)
	}
	return "proof.consistency", members, nil
}

// outFile is where a verb writes a file.
type outFile struct {
	path  string
	force bool
}

func (o *outFile) flags(flags *pflag.FlagSet) {
	flags.StringVar(&o.path, "out", "", "`FILE` to write, - for standard output")
	flags.BoolVar(&o.force, "force", false, "replace the file if it is there")
}

// written is what a verb says of a file.
type written struct {
	File       string `json:"file"`
	Position   string `json:"position,omitzero"` // that is proved
	SignedUpTo string `json:"signed_up_to"`      // position up to which the log is signed in it
}

// write writes the file, whole or not at all, for its owner alone to read, and says what it
// wrote: beside the file, where that goes to standard output.
func (o *outFile) write(a *app, data []byte, said written) error {
	if _, err := writeFile(o.path, o.force, a.out, func(w io.Writer) (int, error) { return w.Write(data) }); err != nil {
		return err
	}
	said.File = o.path
	out := a.out
	if o.path == stdStream {
		out = a.errOut
	}
	if a.json {
		return printJSON(out, said)
	}
	t := newTable(out)
	t.row("wrote", said.File)
	if said.Position != "" {
		t.row("proves", said.Position)
	}
	t.row("signed up to", said.SignedUpTo)
	return t.w.Flush()
}
