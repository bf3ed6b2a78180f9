package main

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriteNew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	text := func(s string) func(io.Writer) error {
		return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
	}
	if err := writeNew(path, false, text("first")); err != nil {
		t.Fatal(err)
	}
	if err := writeNew(path, false, text("second")); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("written over: %v", err)
	}
	broken := errors.New("broken")
	half := func(w io.Writer) error { return errors.Join(text("ha")(w), broken) }
	if err := writeNew(path, true, half); !errors.Is(err, broken) || err.Error() != "broken" {
		t.Errorf("half a file: %v", err)
	}
	func() {
		defer func() { recover() }()
		writeNew(path, true, func(io.Writer) error { panic("broken") })
	}()
	if got, err := os.ReadFile(path); err != nil || string(got) != "first" {
		t.Errorf("the file has %q, %v", got, err)
	}
	if err := writeNew(path, true, text("third")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	if err := writeNew(dir, true, text("x")); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("over a directory: %v", err)
	}
	nowhere := filepath.Join(dir, "no", "where")
	if err := writeNew(nowhere, false, text("x")); err == nil || err.Error() != "write "+nowhere+": no such file or directory" {
		t.Errorf("written nowhere: %v", err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("left over: %v, %v", list, err)
	}
}

// What is no file stays what it is, and nobody is told how to replace it.
func TestWriteNewReplacesNoDevice(t *testing.T) {
	dir := t.TempDir()
	socket, link, dangling := filepath.Join(dir, "socket"), filepath.Join(dir, "link"), filepath.Join(dir, "dangling")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := errors.Join(os.Symlink(os.DevNull, link), os.Symlink("nothing", dangling)); err != nil {
		t.Fatal(err)
	}
	nothing := func(io.Writer) error { return nil }
	for _, path := range []string{socket, link} { // never a device itself: code that is wrong would replace it
		for _, force := range []bool{false, true} {
			err := writeNew(path, force, nothing)
			if err == nil || strings.Contains(err.Error(), "--force") || !strings.Contains(err.Error(), "- for standard output") {
				t.Errorf("%s, force %t: %v", path, force, err)
			}
		}
	}
	if info, err := os.Lstat(socket); err != nil || info.Mode().Type() != fs.ModeSocket {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	if err := writeNew(dangling, false, nothing); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("a link to nothing: %v", err)
	}
	if err := writeNew(dangling, true, nothing); err != nil {
		t.Errorf("a link to nothing, with force: %v", err)
	}
}

// A file that comes while ours is written keeps its place without force.
func TestWriteNewLosesARace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	err := writeNew(path, false, func(io.Writer) error { return os.WriteFile(path, []byte("theirs"), 0o600) })
	if err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("written over: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "theirs" {
		t.Errorf("the file has %q, %v", got, err)
	}
}

// What cannot be written names the file that was asked for.
func TestWriteNewNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	err := writeNew(path, false, func(w io.Writer) error {
		w.(*newFile).Close()
		_, err := w.Write([]byte("x"))
		return err
	})
	if want := "write " + path + ": file already closed"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
