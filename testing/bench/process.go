package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// startTimeout bounds a server's start, stopTimeout its stop after SIGTERM.
	startTimeout = time.Minute
	stopTimeout  = 30 * time.Second
	// logShown is how much of a failed server's log is shown, in bytes.
	logShown = 2000
)

// process is a server in a process of its own.
type process struct {
	name   string
	cmd    *exec.Cmd
	log    string // file with its standard error
	url    string
	seed   string // file with the seed of the nkey to connect with
	cancel context.CancelFunc
	exited chan error
}

// buildKeyledger builds the program that is measured.
func buildKeyledger(ctx context.Context, dir string) (string, error) {
	program, err := filepath.Abs(filepath.Join(dir, "keyledger"))
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "github.com/keyledger/keyledger/cmd/keyledger").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build keyledger: %w\n%s", err, out)
	}
	return program, nil
}

// startKeyledger starts keyledger, with the defaults: every commit is fsynced before it
// is acknowledged. shim, where there is one, is the command that runs it.
func startKeyledger(ctx context.Context, shim []string, program, dir string, flags ...string) (*process, error) {
	command := slices.Concat(shim, []string{program, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"}, flags)
	return start(ctx, "keyledger", dir, nil, command...)
}

// startSelf starts this program again, as one of its servers, with more environment.
func startSelf(ctx context.Context, verb, dir string, environment []string, flags ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(ctx, verb, dir, environment, append([]string{self, verb, "-dir", dir}, flags...)...)
}

// start runs a server and waits for its line "<name> ready <url>".
func start(ctx context.Context, name, dir string, environment []string, command ...string) (*process, error) {
	ctx, cancel := context.WithCancel(ctx)
	p := &process{
		name: name, log: dir + ".log", seed: filepath.Join(dir, "operator.nk"), cancel: cancel, exited: make(chan error, 1),
	}
	p.cmd = exec.CommandContext(ctx, command[0], command[1:]...)
	p.cmd.Env = append(os.Environ(), environment...)
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = stopTimeout // then it is killed
	logFile, err := os.Create(p.log)
	if err != nil {
		cancel()
		return nil, err
	}
	defer logFile.Close() // the process has its own
	p.cmd.Stderr = logFile
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	ready := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if url, ok := strings.CutPrefix(lines.Text(), name+" ready "); ok {
				ready <- url
			}
		}
		p.exited <- p.cmd.Wait()
	}()
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	select {
	case p.url = <-ready:
		return p, nil
	case err := <-p.exited:
		cancel()
		return nil, fmt.Errorf("%s ended before it was ready (%v): %s", name, err, p.tail())
	case <-timeout.C:
		return nil, errors.Join(fmt.Errorf("%s is not ready after %s: %s", name, startTimeout, p.tail()), p.stop())
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), p.stop())
	}
}

// stop asks the process to end and waits until it has.
func (p *process) stop() error {
	p.cancel()
	err := <-p.exited
	if errors.Is(err, context.Canceled) {
		return nil // it ended with code 0, because it was asked to
	}
	if err != nil {
		return fmt.Errorf("%s ended with: %w: %s", p.name, err, p.tail())
	}
	return nil
}

// tail is the end of the process's log.
func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(text[max(0, len(text)-logShown):]))
}

// connect opens the load's connections.
func (p *process) connect(n int) ([]*nats.Conn, error) { return connect(p.url, p.seed, n) }

func connect(url, seed string, n int) ([]*nats.Conn, error) {
	key, err := nats.NkeyOptionFromSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("read the credential: %w", err)
	}
	conns := make([]*nats.Conn, 0, n)
	for range n {
		conn, err := nats.Connect(url, key, nats.Name("bench"), nats.NoReconnect())
		if err != nil {
			closeAll(conns)
			return nil, fmt.Errorf("connect to %s: %w", url, err)
		}
		conns = append(conns, conn)
	}
	return conns, nil
}

func closeAll(conns []*nats.Conn) {
	for _, conn := range conns {
		conn.Close()
	}
}
