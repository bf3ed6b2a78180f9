package main

import (
	"bufio"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events/store/proof"
)

// stdStream is the FILE that stands for standard input or output.
const stdStream = "-"

// openInput opens a file, or standard input, which one command can read once.
func (a *app) openInput(name string) (io.ReadCloser, error) {
	if name != stdStream {
		return os.Open(name)
	}
	if a.inTaken {
		return nil, usagef("%s stands for standard input, and can be only one of the files", stdStream)
	}
	a.inTaken = true
	return io.NopCloser(a.in), nil
}

// readProof reads a proof or checkpoint. It reads no more than the largest has.
func (a *app) readProof(name string) ([]byte, error) {
	in, err := a.openInput(name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	text, err := io.ReadAll(io.LimitReader(in, proof.FileBytesMax+1))
	if err == nil && len(text) > proof.FileBytesMax {
		err = fmt.Errorf("%s has more than %d bytes, as no proof has", name, proof.FileBytesMax)
	}
	return text, err
}

// notEmpty refuses flags that were given without a value, as an unset variable of a shell
// does: what they ask for would be left out unseen.
func notEmpty(c *cobra.Command, names ...string) error {
	for _, name := range names {
		if f := c.Flags().Lookup(name); f.Changed && f.Value.String() == "" {
			return usagef("--%s is empty: give it a value, or leave it out", name)
		}
	}
	return nil
}

// writeFile has f write a file as writeNew does, or standard output where the name is "-".
func writeFile[T any](name string, force bool, stdout io.Writer, f func(io.Writer) (T, error)) (result T, err error) {
	if name == stdStream {
		return buffered(stdout, f)
	}
	if err := mayWrite(name, force); err != nil { // now, not when all is read
		return result, err
	}
	return result, writeNew(name, force, func(w io.Writer) (err error) {
		result, err = buffered(w, f)
		return err
	})
}

func buffered[T any](w io.Writer, f func(io.Writer) (T, error)) (T, error) {
	buffer := bufio.NewWriterSize(w, 256<<10)
	result, err := f(buffer)
	if err == nil {
		err = buffer.Flush()
	}
	return result, err
}
