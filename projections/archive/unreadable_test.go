package archive

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// TestUnreadableIsMadeAgain: what has a segment's name and cannot be read stops no start.
func TestUnreadableIsMadeAgain(t *testing.T) {
	h := newBench(t)
	h.grow(testSpan*2 + 10)
	dir := t.TempDir()
	a := h.open(dir, h.again(), nil)
	stop := run(t, a)
	h.reach(a)
	stop()
	a.Close()
	want := files(t, dir)
	first := segmentName(0, 0)
	for name, put := range map[string]func(path string) error{
		"a directory":              func(path string) error { return os.Mkdir(path, 0o700) },
		"a directory with a file":  func(path string) error { return os.MkdirAll(filepath.Join(path, "x"), 0o700) },
		"a link to nowhere":        func(path string) error { return os.Symlink("nowhere", path) },
		"a link that goes in ring": func(path string) error { return os.Symlink(filepath.Base(path), path) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, first)
			if err := errors.Join(os.Remove(path), put(path)); err != nil {
				t.Fatal(err)
			}
			var log logged
			a := h.open(dir, h.again(), log.logger())
			stop := run(t, a)
			h.reach(a)
			h.check(a)
			stop()
			a.Close()
			if err := os.RemoveAll(path + suffixUnreadable); err != nil {
				t.Fatal(err)
			}
			if got := files(t, dir); !maps.Equal(got, want) || log.String() == "" {
				t.Errorf("files %v, want %v; logged %s", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)), &log)
			}
		})
	}
}

// failing is a file with a place that cannot be read.
type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, syscall.EIO }

// TestReadErrorIsDamage: a place of a file that cannot be read is damage, which is healed
// from the log.
func TestReadErrorIsDamage(t *testing.T) {
	s := &segment{path: "x"}
	var d *damage
	if err := s.read(failing{}, make([]byte, 1), 0); !errors.As(err, &d) || d.segment != s {
		t.Errorf("a read that fails: %v", err)
	}
}
