package server

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events/store"
)

// A checkpoint of the views that cannot be read might prove a loss: the start is refused at
// once, with the file's name.
func TestUnreadableCheckpointOfViews(t *testing.T) {
	dir := t.TempDir()
	s, _, stop := serveConfig(t, Config{DataDir: dir})
	path := filepath.Join(s.dir.viewsDir(), "0-00000000000000000005.views")
	stop()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Config{DataDir: dir, Listen: "127.0.0.1:0", HTTP: httpOff})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.Run(ctx); !errors.Is(err, store.ErrDamagedWitness) || !strings.Contains(err.Error(), "move "+path+" away") {
		t.Errorf("Run: %v", err)
	}
	if ctx.Err() != nil {
		t.Error("it was tried until the end")
	}
}
