package faults

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A checkpoint of webhooks whose record is damaged, and which NATS therefore takes for
// deleted, is refused at the start with what to do, and not waited for.
func TestDamagedCheckpointIsRefused(t *testing.T) {
	s := newSample(t)
	name := filepath.Join(streamsFolder, "KEYLEDGER_LANES_0", "msgs", "1.blk")
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	last := strings.LastIndex(string(data), "Nats-Expected-Last-Sequence")
	if last < 0 {
		t.Fatal("the last record has no header")
	}
	data[last+1] ^= 1
	dir := s.copy(t)
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := startOn(t, dir); err == nil || errors.Is(err, errUndecided) || !strings.Contains(err.Error(), "restore it") {
		t.Errorf("a start says %v", err)
	}
}
