package server

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/archive"
)

// openArchive opens the archive, which answers statements and finds what views are asked of
// the past.
func (s *Server) openArchive() (err error) {
	p := &s.parts
	p.archive, err = archive.Open(archive.Config{
		Tail: s.tail, Partition: partition, Dir: s.dir.archiveDir(), Logger: s.cfg.Logger, Known: p.views.Known, Room: s.roomForViews,
	})
	if err != nil {
		return err
	}
	p.views.Past = p.archive.Past
	return nil
}

// archiveStatus says how far the archive is.
func (s *Server) archiveStatus() projections.Status {
	place := s.parts.archive.Applied()
	return projections.StatusAt("archive", place, s.tail, s.parts.archive.Trouble())
}

// verifyArchive reads all of the archive's files. What is damaged is logged and removed, so
// that the next start makes it again from the log: the ledger has lost nothing by it.
func (s *Server) verifyArchive(ctx context.Context) error {
	dir := s.dir.archiveDir()
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil // from before there was any, or it will be made anew
	}
	a, err := archive.Open(archive.Config{Partition: partition, Dir: dir, Logger: s.cfg.Logger})
	if err != nil {
		return err
	}
	defer a.Close()
	_, err = a.Verify(ctx)
	return err
}
