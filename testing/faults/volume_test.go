package faults

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// volume is a small file system of a test's own, a tmpfs: memory, but with a size that
// ends as a disk's does.
type volume struct {
	t    *testing.T
	path string
}

// newVolume mounts one. Where that cannot be done the test is skipped.
func newVolume(t *testing.T, bytes int64) *volume {
	t.Helper()
	v := &volume{t: t, path: t.TempDir()}
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+strconv.FormatInt(bytes, 10), "keyledger-faults", v.path).CombinedOutput()
	if err != nil {
		t.Skipf("a full disk needs the right to mount a tmpfs: %v %s", err, strings.TrimSpace(string(out)))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", v.path).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return v
}

func (v *volume) filler() string { return filepath.Join(v.path, "filler") }

// fill takes all space but leave bytes, as another program would. With 0 it goes on until
// the file system says that it is full.
func (v *volume) fill(leave int64) {
	v.t.Helper()
	f, err := os.OpenFile(v.filler(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		v.t.Fatal(err)
	}
	defer f.Close()
	chunk := make([]byte, 1<<20)
	for {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(v.path, &fs); err != nil {
			v.t.Fatal(err)
		}
		n := min(int64(len(chunk)), int64(fs.Bavail)*int64(fs.Bsize)-leave)
		if leave > 0 && n <= 0 {
			return
		}
		if _, err := f.Write(chunk[:max(n, 1)]); err != nil {
			if leave == 0 {
				return // no space left
			}
			v.t.Fatal(err)
		}
	}
}

// free gives the space back.
func (v *volume) free() {
	v.t.Helper()
	if err := os.Remove(v.filler()); err != nil {
		v.t.Fatal(err)
	}
}
