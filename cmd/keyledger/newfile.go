package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/keyledger/keyledger/events/store"
)

// mayWrite says early that a file is there already, or that there can be none.
func mayWrite(path string, force bool) error {
	info, err := os.Stat(path) // a link to a device is one
	if err != nil {
		info, err = os.Lstat(path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return notWritten(path, err)
	case info.IsDir():
		return fmt.Errorf("write %s: it is a directory", path)
	case !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeSymlink:
		return fmt.Errorf("write %s: it is no file but a device, pipe or socket; give the name of a file, or - for standard output", path)
	case !force:
		return fmt.Errorf("%s is there already; give another name, or --force to write over it", path)
	}
	return nil
}

// notWritten is what an error of a file operation says of the file that was asked for, not
// of the one beside it.
func notWritten(path string, err error) error {
	var at *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &at):
		err = at.Err
	case errors.As(err, &link):
		err = link.Err
	}
	return fmt.Errorf("write %s: %w", path, err)
}

// newFile is the file beside the one that is written.
type newFile struct {
	*os.File
	path string // of the one that is written
}

// Write implements io.Writer.
func (f *newFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	if err != nil {
		err = notWritten(f.path, err)
	}
	return n, err
}

// writeNew writes a file that only its owner may read. Under its name it is whole or not
// there: it is written beside it, made durable, and renamed. Without force it takes no
// other file's place. What write returns comes back as it is.
func writeNew(path string, force bool, write func(io.Writer) error) error {
	if err := mayWrite(path, force); err != nil {
		return err
	}
	beside, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return notWritten(path, err)
	}
	// If we stop before the rename, a hidden file beside it is left over. The deferred calls
	// are for errors and panics: when all went well they find nothing to do.
	defer os.Remove(beside.Name())
	defer beside.Close()
	if err := write(&newFile{beside, path}); err != nil {
		return err
	}
	if err := errors.Join(beside.Sync(), beside.Close()); err != nil {
		return notWritten(path, err)
	}
	if err := place(beside.Name(), path, force); err != nil {
		return err
	}
	// If we stop here: the file is whole, but a power cut may take its name away.
	if err := store.SyncDir(filepath.Dir(path)); err != nil {
		return notWritten(path, err)
	}
	return nil
}

// place gives a file its name.
func place(from, path string, force bool) error {
	if !force {
		err := os.Link(from, path) // refuses what is there, also what came a moment ago
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, errors.ErrUnsupported) {
			return notWritten(path, err)
		}
	}
	// There is a file, or file systems without links: exFAT for example.
	if err := mayWrite(path, force); err != nil {
		return err
	}
	if err := os.Rename(from, path); err != nil {
		return notWritten(path, err)
	}
	return nil
}
