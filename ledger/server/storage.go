package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger/writer"
)

// ErrStorageFailed means that the data directory could not be written or read. What was
// acknowledged is safe; to start again helps only once the cause is removed.
var ErrStorageFailed = writer.ErrStorageFailed

// usageTimeout bounds one look at how full the log is.
const usageTimeout = 5 * time.Second

// storageErrors are what the system answers when a disk fails, is full or read-only, or
// the process reached its own limits there.
var storageErrors = []error{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EFBIG}

// failed says what has failed and what to do.
func (s *Server) failed(err error) error {
	return fmt.Errorf("%w in %s: %w; every acknowledged command is kept: repair the disk or free some space, then start again", ErrStorageFailed, s.cfg.DataDir, err)
}

// storageFailed marks an error of a start that comes from the disk.
func (s *Server) storageFailed(err error) error {
	for _, cause := range storageErrors {
		if errors.Is(err, cause) {
			return s.failed(err)
		}
	}
	return err
}

// usage looks at the storage for the writer: is it well, and how full is it. JetStream
// answers nothing to an append that failed, so its own health is asked.
func (s *Server) usage(ctx context.Context) (writer.Usage, error) {
	if err := s.nats.storageError(store.StreamLog(partition)); err != nil {
		return writer.Usage{}, s.failed(err)
	}
	ctx, cancel := context.WithTimeout(ctx, usageTimeout)
	defer cancel()
	stream, err := s.js.Stream(ctx, store.StreamLog(partition))
	if err != nil {
		return writer.Usage{}, fmt.Errorf("look up the log's size: %w", err)
	}
	info := stream.CachedInfo()
	fs, err := volumeOf(s.dir.natsDir())
	if err != nil {
		return writer.Usage{}, err
	}
	return writer.Usage{
		Log: int64(info.State.Bytes), LogMax: max(info.Config.MaxBytes, 0),
		Free: int64(fs.Bavail) * int64(fs.Bsize), Volume: int64(fs.Blocks) * int64(fs.Bsize),
	}, nil
}

// storageError is what keeps JetStream from writing a stream, or with "" any of them, nil
// if nothing does. A write error stays until the server starts again (nats-server 2.15:
// filestore.go, setWriteErr); a refused permission makes it shut JetStream down. Its
// health gives the first a type that other things have too, so the text must tell.
func (e *embeddedNATS) storageError(stream string) error {
	health := e.server.Healthz(&natsserver.HealthzOptions{Account: natsAccountStore, Stream: stream, Details: true})
	for _, found := range health.Errors {
		if found.Type == natsserver.HealthzErrorJetStream || strings.Contains(found.Error, "write error") {
			return errors.New(found.Error)
		}
	}
	return nil
}

// watchDerived returns an error when a derived stream cannot be written any more. While
// the storage is full it waits: queries go on, and nothing new has to be derived. After
// that a new start is all that is needed; else it is ErrStorageFailed, as for the log.
func (s *Server) watchDerived(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for failedWhileFull := false; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		full, err := s.writer.Stats().StorageFull, s.nats.storageError("")
		failedWhileFull = err != nil && (full || failedWhileFull)
		switch {
		case err == nil || full:
		case failedWhileFull && s.nats.storageError(store.StreamLog(partition)) == nil:
			return fmt.Errorf("start again to go on with a stream that failed while the storage was full: %w", err)
		default:
			return s.failed(err)
		}
	}
}

// viewsReserve is how many bytes of the volume the views' checkpoints, the archive and the
// directory of webhooks leave free, a fifth of it where that is less: more than the writer
// keeps for itself, so that no command is refused because of them.
const viewsReserve = 128 << 20

// roomForViews says whether the volume has so many more bytes for a file that is made from the log.
func (s *Server) roomForViews(bytes int64) error {
	fs, err := volumeOf(s.dir.path)
	if err != nil {
		return err
	}
	free, keep := int64(fs.Bavail)*int64(fs.Bsize), min(viewsReserve, int64(fs.Blocks)*int64(fs.Bsize)/5)
	if free-bytes < keep {
		return fmt.Errorf("the volume has %d bytes free, of which %d are left to the log", free, keep)
	}
	return nil
}

func volumeOf(dir string) (fs syscall.Statfs_t, err error) {
	if err := syscall.Statfs(dir, &fs); err != nil {
		return fs, fmt.Errorf("size of the volume of %s: %w", dir, err)
	}
	return fs, nil
}

// limitLog gives the log the byte limit it was configured with. Without one it keeps the
// limit it has, or grows with its volume. On a volume that is too small for all limits,
// as after a move, they stay as they are.
func (s *Server) limitLog(ctx context.Context, streams []jetstream.StreamConfig, budget int64) error {
	limit := s.cfg.LogBytesMax
	if limit == 0 {
		stream, err := s.js.Stream(ctx, streams[0].Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look up the log's limit: %w", err)
		}
		limit = max(stream.CachedInfo().Config.MaxBytes, streams[0].MaxBytes)
	}
	if err := store.LimitLog(streams, budget, limit); err != nil {
		if s.cfg.LogBytesMax == 0 {
			return nil
		}
		return fmt.Errorf("limit the log: %w", err)
	}
	return store.FitStreams(ctx, s.js, streams)
}
