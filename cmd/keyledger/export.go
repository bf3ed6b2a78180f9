package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/events/store/proof"
	"github.com/keyledger/keyledger/ledger/server"
)

// exported is what export, export check and restore print.
type exported struct {
	File     string      `json:"file,omitzero"`
	DataDir  string      `json:"data_dir,omitzero"` // of restore
	Ledger   string      `json:"ledger"`
	Begun    events.Time `json:"exported_at"`
	Commits  uint64      `json:"commits"`
	Events   uint64      `json:"events"`
	Position string      `json:"position"` // of the last commit
	Hash     store.Hash  `json:"hash"`     // of the last commit
	Time     events.Time `json:"time"`     // of the last commit
	Bytes    int64       `json:"bytes"`    // of the file
	SHA256   store.Hash  `json:"sha256"`   // of the file
	// Of the newest signed checkpoint in the file, if there is one: its position, the key that
	// signed it as <origin>+<key id>, and the checkpoint itself.
	SignedUpTo string `json:"signed_up_to,omitzero"`
	SignedBy   string `json:"signed_by,omitzero"`
	Checkpoint string `json:"checkpoint,omitzero"`
	ProvedUpTo string `json:"proved_up_to,omitzero"` // with --key: the position up to which that key signed the log
	SealKey    string `json:"seal_key"`              // id of the key that it was sealed with
}

func newExported(e *server.Exported) *exported {
	x := &exported{
		Ledger: e.Header.Ledger, Begun: e.Header.Time, SealKey: e.Header.SealKey, Commits: e.End.Sequence, Events: e.End.Ordinal,
		Position: e.End.Position().String(), Hash: e.End.Hash, Time: e.End.Time, Bytes: e.Bytes, SHA256: e.Sum,
		Checkpoint: e.Signed,
	}
	if c, key, err := proof.ReadCheckpoint([]byte(e.Signed)); err == nil {
		x.SignedUpTo, x.SignedBy = c.Position().String(), key
	}
	return x
}

// show prints it to w.
func (e *exported) show(w io.Writer, json bool) error {
	if json {
		return printJSON(w, e)
	}
	t := newTable(w)
	if e.File != "" {
		t.row("file", e.File)
	}
	if e.DataDir != "" {
		t.row("data directory", e.DataDir)
	}
	t.row("ledger", e.Ledger)
	t.row("exported at", e.Begun)
	t.row("commits", grouped(int64(e.Commits)))
	t.row("events", grouped(int64(e.Events)))
	t.row("head", e.Position)
	t.row("hash", e.Hash)
	t.row("time", e.Time)
	t.row("bytes", grouped(e.Bytes))
	t.row("sha256", e.SHA256)
	if e.Checkpoint != "" {
		t.row("signed up to", e.SignedUpTo)
		t.row("signed by", e.SignedBy)
	}
	if e.ProvedUpTo != "" {
		t.row("proved up to", e.ProvedUpTo)
	}
	t.row("seal key id", e.SealKey)
	return t.w.Flush()
}

func exportCommand(a *app) *cobra.Command {
	var out, dir string
	var plain, force bool
	c := a.verb(&cobra.Command{
		Use:   "export",
		Short: "Write the whole log to one file",
		Long: `Write the whole log to one file, every commit checked, while the server runs; with
--data-dir from files on which no server runs. "keyledger restore" makes a data directory
of it again. The file appears under its name when it is whole and on the disk.

It holds what the log holds, the accounts' metadata and the hashes of secrets among it, how
far webhooks were delivered, and the newest signed checkpoint: keep it as you keep the data
directory. It does not hold seal.key, without which the webhook secrets in it cannot be
opened (back it up by itself), nor checkpoint.key and the history of signed checkpoints,
nor operator.nk, nor the delivery and access logs.`,
		Example: `  keyledger export --out ledger.klx
  keyledger export --out - --plain
  keyledger export --out ledger.klx --data-dir /var/lib/keyledger
  keyledger export check ledger.klx`,
		Args: arguments(),
	}, func(cmd *cobra.Command, _ []string) error {
		if out == stdStream && isTerminal(a.out) {
			return usagef("an export is not text: give --out FILE, or lead standard output into a file or a program")
		}
		found, err := writeFile(out, force, a.out, func(w io.Writer) (*exported, error) {
			return a.export(cmd, w, dir, !plain)
		})
		if err != nil {
			return err
		}
		if out == stdStream {
			return found.show(a.errOut, a.json)
		}
		found.File = out
		return found.show(a.out, a.json)
	})
	flags := c.Flags()
	flags.StringVar(&out, "out", "", "the `FILE` to write, or - for standard output")
	flags.BoolVar(&force, "force", false, "replace the file if it is there")
	flags.BoolVar(&plain, "plain", false, "do not compress (zstd)")
	flags.StringVar(&dir, "data-dir", "", "read the files in `DIR`, on which no server runs")
	require(c, "out")
	c.AddCommand(exportCheck(a))
	return c
}

// export writes the log of a server, or that in a directory if one is given.
func (a *app) export(cmd *cobra.Command, w io.Writer, dir string, compress bool) (*exported, error) {
	p := a.newProgress()
	p.begin("exporting commits")
	defer p.clear()
	cfg := server.ExportConfig{Compress: compress, Each: func(c *store.Commit, last uint64) { p.at(int(c.Sequence), int(last)) }}
	found, err := a.exportFrom(cmd, w, dir, cfg)
	if err != nil {
		return nil, err
	}
	return newExported(found), cmd.Context().Err()
}

func (a *app) exportFrom(cmd *cobra.Command, w io.Writer, dir string, cfg server.ExportConfig) (*server.Exported, error) {
	if dir != "" {
		found, err := server.ExportDir(cmd.Context(), server.Config{DataDir: dir, Logger: a.warnings()}, w, cfg)
		return found, orAskServer(err)
	}
	conn, err := a.connect(cmd)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(a.timeout))
	if err != nil {
		return nil, err
	}
	return server.Export(cmd.Context(), js, w, cfg)
}

// orAskServer says what else can be done where a server runs on the directory.
func orAskServer(err error) error {
	if errors.Is(err, server.ErrInUse) {
		return fmt.Errorf("%w; or leave --data-dir out, and the server that runs is asked", err)
	}
	return err
}

// warnings logs what is worth a warning to standard error.
func (a *app) warnings() *slog.Logger {
	return slog.New(slog.NewTextHandler(a.errOut, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
