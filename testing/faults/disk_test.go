package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// diskBytes is the size of a test's disk. The file is sparse.
const diskBytes = 256 << 20

// disk is an ext4 file system in an image file, on a loop device. What the image holds is
// what a disk would hold after a power cut: what the file system has in the page cache
// only is not in it.
type disk struct {
	t     *testing.T
	image string
	mount string // where it is mounted
	loop  string // its device, "" while it is not mounted
}

// newDisk makes one and mounts it. Where that cannot be done the test is skipped.
func newDisk(t *testing.T) *disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a power cut needs root: it mounts a disk image on a loop device")
	}
	dir := t.TempDir()
	d := &disk{t: t, image: filepath.Join(dir, "disk.img"), mount: filepath.Join(dir, "disk")}
	if err := os.Mkdir(d.mount, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(d.image)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(diskBytes); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	// All tables are written now, so that the kernel has nothing to do in the background.
	if out, err := run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", d.image); err != nil {
		t.Skipf("a power cut needs mkfs.ext4: %v %s", err, out)
	}
	if err := d.attach(); err != nil {
		t.Skipf("a power cut needs loop devices and mount: %v", err)
	}
	t.Cleanup(d.detach)
	return d
}

// attach mounts the image. The journal is written on fsync only, not every five seconds:
// nothing may be written while the image is copied.
func (d *disk) attach() error {
	out, err := run("losetup", "--direct-io=on", "-f", "--show", d.image)
	if err != nil { // direct I/O depends on the file system below; it only saves memory
		if out, err = run("losetup", "-f", "--show", d.image); err != nil {
			return fmt.Errorf("losetup: %w: %s", err, out)
		}
	}
	d.loop = out
	if out, err := run("mount", "-t", "ext4", "-o", "commit=300", d.loop, d.mount); err != nil {
		_, _ = run("losetup", "-d", d.loop) // the mount's error says more
		d.loop = ""
		return fmt.Errorf("mount: %w: %s", err, out)
	}
	return nil
}

func (d *disk) detach() {
	d.t.Helper()
	if d.loop == "" {
		return
	}
	if out, err := run("umount", d.mount); err != nil {
		d.t.Errorf("umount: %v: %s", err, out)
	}
	if out, err := run("losetup", "-d", d.loop); err != nil {
		d.t.Errorf("losetup: %v: %s", err, out)
	}
	d.loop = ""
}

// cutPower puts the disk in the state that the power cut leaves: p is stopped, what the
// image holds is kept, and mounted again once p is dead. A write that was under way when
// p was stopped is finished; torn ones are what the tail cuts are for.
func (d *disk) cutPower(p *program) {
	d.t.Helper()
	p.freeze()
	kept := d.image + ".kept"
	if out, err := run("cp", "--sparse=always", d.image, kept); err != nil {
		d.t.Fatalf("copy the image: %v: %s", err, out)
	}
	p.kill()
	d.detach()
	if err := os.Rename(kept, d.image); err != nil {
		d.t.Fatal(err)
	}
	if err := d.attach(); err != nil { // replays the journal
		d.t.Fatal(err)
	}
}

func run(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
