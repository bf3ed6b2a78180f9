package server

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/projections/archive"
)

// signal tells that something was written.
type signal chan struct{}

func (s signal) Write(b []byte) (int, error) {
	select {
	case s <- struct{}{}:
	default:
	}
	return len(b), nil
}

// The status says why the archive does not go on.
func TestArchiveStatusSaysWhatFails(t *testing.T) {
	log := &store.Memory{ReadFault: func(uint64) error { return errors.New("the network is away") }}
	tail, logged := store.NewTail(log, partition), make(signal, 1)
	tail.Reset(store.Chain{Sequence: 1, Ordinal: 1})
	a, err := archive.Open(archive.Config{Tail: tail, Dir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(logged, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	s := &Server{tail: tail, parts: parts{archive: a}}
	if failure := s.archiveStatus().Failure; failure != "" {
		t.Errorf("nothing failed yet: %s", failure)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	<-logged
	if failure := s.archiveStatus().Failure; !strings.Contains(failure, "the network is away") {
		t.Errorf("failure is %q", failure)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
