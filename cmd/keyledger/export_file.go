package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// writeFile has f write a file of mode 0600, or standard output where the name is "-".
// The name is given to it when it is whole and durable. It replaces no file without force.
func writeFile[T any](name string, force bool, stdout io.Writer, f func(io.Writer) (T, error)) (result T, err error) {
	if name == stdStream {
		return buffered(stdout, f)
	}
	free := func() error {
		if _, err := os.Lstat(name); force || errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		return fmt.Errorf("write %s: it is there already; give another name, or --force to replace it", name)
	}
	if err := free(); err != nil {
		return result, err
	}
	temporary, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*.tmp") // mode 0600
	if err != nil {
		return result, err
	}
	// If we stop before the rename: a temporary file, that nobody takes for another.
	defer func() {
		if err != nil {
			err = errors.Join(err, temporary.Close(), os.Remove(temporary.Name()))
		}
	}()
	if result, err = buffered(temporary, f); err != nil {
		return result, err
	}
	if err = temporary.Sync(); err != nil {
		return result, err
	}
	if err = free(); err != nil {
		return result, err
	}
	if err = os.Rename(temporary.Name(), name); err != nil {
		return result, err
	}
	// If we stop here: the file is whole, but a power cut may take its name away.
	return result, errors.Join(temporary.Close(), syncDir(filepath.Dir(name)))
}

func buffered[T any](w io.Writer, f func(io.Writer) (T, error)) (T, error) {
	buffer := bufio.NewWriterSize(w, 256<<10)
	result, err := f(buffer)
	if err == nil {
		err = buffer.Flush()
	}
	return result, err
}

func syncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// requireFlag makes a flag one that has to be given.
func requireFlag(c *cobra.Command, name string) {
	if err := c.MarkFlagRequired(name); err != nil {
		panic(err)
	}
}
