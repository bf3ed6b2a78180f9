package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"time"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
)

// fsyncShim is the command line that runs a program so that each of its fsyncs takes
// longer by delay; none for no delay.
//
// strace holds a thread back after its fsync, and with --seccomp-bpf no other system
// call stops. A preloaded library would do nothing: Go makes its system calls itself.
// JetStream syncs each stored message by fsync (nats-server 2.15, filestore.go,
// flushPendingMsgsLocked); only its files of settings are written through O_SYNC, and
// those are not delayed. -D makes keyledger, and not strace, the process that signals
// reach.
func fsyncShim(delay time.Duration) ([]string, error) {
	if delay == 0 {
		return nil, nil
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		return nil, fmt.Errorf("-fsync-delay needs strace (apt-get install strace): %w", err)
	}
	const calls = "fsync,fdatasync"
	shim := []string{
		strace, "-D", "-f", "--seccomp-bpf", "-qq", "-o", os.DevNull, "-e", "trace=" + calls,
		"-e", fmt.Sprintf("inject=%s:delay_exit=%d", calls, delay.Microseconds()),
	}
	if out, err := exec.Command(shim[0], append(slices.Clone(shim[1:]), "true")...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("-fsync-delay needs a strace that may trace: %w: %s", err, bytes.TrimSpace(out))
	}
	return shim, nil
}

// fsyncUnder is measureFsync in a process that runs as keyledger will.
func fsyncUnder(ctx context.Context, shim []string, dir string) (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	command := slices.Concat(shim, []string{self, "fsync", "-dir", dir})
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("measure an fsync: %w: %s", err, stderr.Bytes())
	}
	return strconv.ParseFloat(string(bytes.TrimSpace(out)), 64)
}

// runFsync prints what measureFsync measures: "bench fsync".
func runFsync(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("bench fsync", flag.ContinueOnError)
	dir := flags.String("dir", "", "`DIR` on the volume to measure")
	if err := flags.Parse(args); err != nil {
		return err
	}
	micros, err := measureFsync(*dir)
	if err == nil {
		fmt.Println(micros)
	}
	return err
}

// measureFsync is the median time of writing 4 KiB at the end of a file in dir and
// fsyncing it, in microseconds.
func measureFsync(dir string) (_ float64, err error) {
	const writes = 200
	f, err := os.CreateTemp(dir, "fsync-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	block := make([]byte, 4<<10)
	times := make([]float64, writes)
	for i := range times {
		begin := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		times[i] = float64(time.Since(begin).Nanoseconds()) / 1000
	}
	return load.Median(times), nil
}
