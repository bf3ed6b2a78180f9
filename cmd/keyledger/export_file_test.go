package main

import (
	"errors"
	"os"
	"testing"
)

// An export is not written to a terminal, where it would do harm; /dev/null is none.
func TestExportIsNotWrittenToATerminal(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminal can be had: %v", err)
	}
	defer terminal.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if !isTerminal(terminal) || isTerminal(null) {
		t.Errorf("a terminal: %t, /dev/null: %t", isTerminal(terminal), isTerminal(null))
	}
	a := &app{out: terminal, errOut: null}
	c := exportCommand(a)
	c.SetArgs([]string{"--out", "-", "--data-dir", t.TempDir()})
	c.SilenceErrors, c.SilenceUsage = true, true
	var usage *usageError
	if err := c.Execute(); !errors.As(err, &usage) {
		t.Errorf("written to a terminal: %v", err)
	}
}
