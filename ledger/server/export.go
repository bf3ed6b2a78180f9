package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger/writer"
)

// ExportConfig says how an export is written.
type ExportConfig struct {
	// Compress packs it with zstd.
	Compress bool

	// Each is called for every commit, with the sequence of the last there will be.
	Each func(c *store.Commit, last uint64)

	// check looks at the log's end before the export is finished.
	check func(end store.Chain) error
}

// Exported is what an export or a restore holds.
type Exported struct {
	Header store.ExportHeader
	End    store.Chain
	Bytes  int64
	Sum    store.Hash // SHA-256 of the whole file
	Signed string     // the newest signed checkpoint in it, which the log has; "": none
}

// Export writes the log on a NATS server to w, from its first commit to its last of now,
// and checks each; keyledger may go on serving. Whoever may read streams can do it.
//
// The seal key and the operator's credential are not in it: who has the export alone can
// open no webhook secret and is nobody's operator. It has what is in the log, hashes of
// secrets and the accounts' metadata among it. The feed, views and snapshots are derived
// again, the delivery and access logs are left out. Beside the log stand the newest
// checkpoint of webhook lanes, without which a restored ledger would send everything again
// that the log holds, and the newest signed one, of which Restore knows what was signed.
func Export(ctx context.Context, js jetstream.JetStream, w io.Writer, cfg ExportConfig) (*Exported, error) {
	stream, err := js.Stream(ctx, store.StreamLog(partition))
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", store.StreamLog(partition), err)
	}
	identity, ok := store.IdentityOf(stream.CachedInfo().Config)
	if !ok {
		return nil, errors.New("this log does not say yet whose it is: start this keyledger on it once")
	}
	// The checkpoints come first: the log has all that they have seen.
	var beside store.ExportBeside
	if beside.Lanes, err = newest(ctx, js, store.StreamLanes(partition), store.SubjectLanes(partition)); err != nil {
		return nil, err
	}
	if beside.Signed, err = newest(ctx, js, store.StreamCheckpoints(partition), store.SubjectCheckpoints(partition)); err != nil {
		return nil, err
	}
	var signed claims
	if err := signed.ofExport(identity.Ledger, beside.Signed); err != nil {
		return nil, err
	}
	log, err := store.OpenJetStream(ctx, js, partition)
	if err != nil {
		return nil, err
	}
	end, err := log.Last(ctx)
	if err != nil {
		return nil, err
	}
	header := store.ExportHeader{
		Ledger: identity.Ledger, Partition: partition, Partitions: identity.Partitions, SealKey: identity.SealKey,
		Time: events.At(time.Now()), End: end, Program: "keyledger " + Version,
	}
	out, err := store.NewExportWriter(w, header, beside, cfg.Compress)
	if err != nil {
		return nil, err
	}
	err = log.Read(ctx, 1, end, func(sequence uint64, data []byte) error {
		c, err := out.Add(sequence, data)
		if err != nil {
			return err
		}
		if cfg.Each != nil {
			cfg.Each(c, end)
		}
		return errors.Join(signed.add(c), ctx.Err())
	})
	if err == nil {
		err = signed.end(out.End())
	}
	if err == nil && cfg.check != nil {
		err = cfg.check(out.End())
	}
	if err != nil {
		return nil, err
	}
	found := &Exported{Header: header, End: out.End(), Signed: string(beside.Signed)}
	found.Bytes, found.Sum, err = out.Close()
	return found, err
}

// newest is the newest message of a subject as it is stored, nil for none.
func newest(ctx context.Context, js jetstream.JetStream, name, subject string) ([]byte, error) {
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", name, err)
	}
	msg, err := stream.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the newest of stream %s: %w", name, err)
	}
	return msg.Data, nil
}

// ExportDir is Export of a data directory on which no server runs. It asks the witnesses
// there too, and changes no commit; it needs no seal key. Of cfg it uses DataDir and
// Logger.
func ExportDir(ctx context.Context, cfg Config, w io.Writer, export ExportConfig) (found *Exported, err error) {
	s := &Server{cfg: cfg.withDefaults()}
	if !(&dataDir{path: s.cfg.DataDir}).hasLog() {
		return nil, fmt.Errorf("export %s: there is no log in it: %w", s.cfg.DataDir, fs.ErrNotExist)
	}
	if s.dir, err = openDataDir(s.cfg.DataDir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.dir.checkFiles(); err != nil {
		return nil, err
	}
	if err := s.startAlone("keyledger export", false); err != nil {
		return nil, err
	}
	log, err := store.OpenJetStream(ctx, s.js, partition)
	if err != nil {
		return nil, err
	}
	export.check = func(end store.Chain) error {
		list, err := s.witnesses(ctx)
		if err == nil {
			_, err = writer.CheckWitnesses(ctx, log, &end, s.dir.path, list)
		}
		return err
	}
	return Export(ctx, s.js, w, export)
}
