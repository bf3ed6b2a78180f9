package main

import (
	"bufio"
	"io"
)

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
