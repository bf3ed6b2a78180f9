package main

import (
	"context"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger/server"
)

// verified is what audit verify found.
type verified struct {
	Partition uint32      `json:"partition"`
	Commits   uint64      `json:"commits"`
	Events    uint64      `json:"events"`
	Epochs    uint64      `json:"epochs"` // how many writers the log has had
	Position  string      `json:"position"`
	Hash      store.Hash  `json:"hash"`
	Time      events.Time `json:"time"` // of the last commit

	// Of a data directory only.
	Ledger      string   `json:"ledger,omitzero"`
	Witnesses   []string `json:"witnesses,omitzero"`   // that agree
	Checkpoints int      `json:"checkpoints,omitzero"` // signed, that are of this log
	TornBytes   int      `json:"torn_bytes,omitzero"`
}

func auditVerify(a *app) *cobra.Command {
	var dir string
	c := a.verb(&cobra.Command{
		Use:   "verify",
		Short: "Check every commit of the log",
		Long: `Check every commit of the log, from the first to the last: its hash, that it follows the
one before, and that none is missing. It ends with exit code 1 and names the first bad
position if any. Keep the position and hash it prints: a log that later lacks that
position, or has another hash there, has been changed.

With --data-dir no server is needed, and none may run on the directory: it is for a log
on which keyledger refuses to start. It checks the files themselves, and also whose log
it is and that it reaches all that its witnesses saw: the head file, the feed, the
checkpoints of webhooks, and every stored signed checkpoint, root and all. It needs no
seal.key. It adds nothing to the log, and changes no file if a commit is bad.`,
		Example: "  keyledger audit verify\n  keyledger audit verify --json\n  keyledger audit verify --data-dir /var/lib/keyledger",
		Args:    arguments(),
	}, func(cmd *cobra.Command, _ []string) error {
		found, err := a.verify(cmd, dir)
		if err != nil {
			return err
		}
		if a.json {
			return printJSON(a.out, found)
		}
		t := newTable(a.out)
		t.row("intact", "yes")
		t.row("commits", grouped(int64(found.Commits)))
		t.row("events", grouped(int64(found.Events)))
		t.row("epochs", grouped(int64(found.Epochs)))
		t.row("head", found.Position)
		t.row("hash", found.Hash)
		t.row("time", found.Time)
		if dir != "" {
			t.row("ledger", found.Ledger)
			t.row("seen by", strings.Join(found.Witnesses, ", "))
			t.row("checkpoints", grouped(int64(found.Checkpoints)))
			t.row("torn bytes", grouped(int64(found.TornBytes)))
		}
		return t.w.Flush()
	})
	c.Flags().StringVar(&dir, "data-dir", "", "check the files in `DIR`, on which no server runs")
	return c
}

// verify checks the log of a server, or that in a directory if one is given.
func (a *app) verify(cmd *cobra.Command, dir string) (*verified, error) {
	if dir != "" {
		return a.verifyFiles(cmd.Context(), dir)
	}
	log, last, closeLog, err := a.openLog(cmd)
	if err != nil {
		return nil, err
	}
	defer closeLog()
	return verify(cmd.Context(), log, last, a.newProgress())
}

// verify walks the whole log.
func verify(ctx context.Context, log store.Log, last uint64, p *progress) (*verified, error) {
	chain := store.Chain{Partition: partition}
	found := &verified{}
	p.begin("checking commits")
	defer p.clear()
	err := store.ReadChecked(ctx, log, &chain, last, func(c *store.Commit) error {
		found.count(c)
		p.at(int(c.Sequence), int(last))
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	found.end(&chain)
	return found, ctx.Err()
}

// verifyFiles checks the ledger in a directory.
func (a *app) verifyFiles(ctx context.Context, dir string) (*verified, error) {
	found := &verified{}
	cfg := server.Config{
		DataDir: dir, SealKey: os.Getenv(envSealKey), CheckpointKey: os.Getenv(envCheckpointKey),
		Logger: slog.New(slog.NewTextHandler(a.errOut, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	v, err := server.Verify(ctx, cfg, func(c *store.Commit) error {
		found.count(c)
		return ctx.Err()
	})
	if err != nil {
		return nil, orAskServer(err)
	}
	found.end(&v.End)
	found.Ledger, found.Witnesses, found.Checkpoints, found.TornBytes = v.Ledger, v.Witnesses, v.Checkpoints, v.TornBytes
	if v.SealKeyMissing {
		a.note("there is no seal key: the log was checked without it, and keyledger serve will not start before seal.key is in %s or %s is set", dir, envSealKey)
	}
	return found, nil
}

func (v *verified) count(c *store.Commit) {
	v.Commits++
	if len(c.Entries) == 0 {
		v.Epochs++
	}
}

func (v *verified) end(c *store.Chain) {
	v.Partition, v.Events, v.Position, v.Hash, v.Time = c.Partition, c.Ordinal, c.Position().String(), c.Hash, c.Time
}
