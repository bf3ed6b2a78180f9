package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
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
	// startTimeout bounds a server's start, which reads a whole log in "bench scale";
	// stopTimeout its stop after SIGTERM.
	startTimeout = 15 * time.Minute
	stopTimeout  = 2 * time.Minute
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
	ready := make(chan string, 1)
	p, err := launch(ctx, &program{
		name: name, log: dir + ".log", command: command, environment: environment,
		line: func(line string) {
			if url, ok := strings.CutPrefix(line, name+" ready "); ok {
				ready <- url
			}
		},
	})
	if err != nil {
		return nil, err
	}
	p.seed = filepath.Join(dir, "operator.nk")
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	select {
	case p.url = <-ready:
		return p, nil
	case err := <-p.exited:
		p.cancel()
		return nil, fmt.Errorf("%s ended before it was ready (%v): %s", name, err, p.tail())
	case <-timeout.C:
		return nil, errors.Join(fmt.Errorf("%s is not ready after %s: %s", name, startTimeout, p.tail()), p.stop())
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), p.stop())
	}
}

// program is what is to run as a server.
type program struct {
	name        string
	log         string // file for what it says
	command     []string
	environment []string             // beside this process's own
	as          *syscall.SysProcAttr // nil: as this process
	signal      syscall.Signal       // asks it to end; 0 is SIGTERM
	line        func(string)         // gets the lines of its standard output; nil: they go to the log
}

// launch starts a server.
func launch(ctx context.Context, what *program) (*process, error) {
	ctx, cancel := context.WithCancel(ctx)
	p := &process{name: what.name, log: what.log, cancel: cancel, exited: make(chan error, 1)}
	p.cmd = exec.CommandContext(ctx, what.command[0], what.command[1:]...)
	p.cmd.Env = append(os.Environ(), what.environment...)
	p.cmd.SysProcAttr = what.as
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(cmp.Or(what.signal, syscall.SIGTERM)) }
	p.cmd.WaitDelay = stopTimeout // then it is killed
	logFile, err := os.Create(p.log)
	if err != nil {
		cancel()
		return nil, err
	}
	defer logFile.Close() // the process has its own
	p.cmd.Stdout, p.cmd.Stderr = logFile, logFile
	var out io.Reader = strings.NewReader("")
	if what.line != nil {
		p.cmd.Stdout = nil
		out, err = p.cmd.StdoutPipe()
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", what.name, err)
	}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			what.line(lines.Text())
		}
		p.exited <- p.cmd.Wait()
	}()
	return p, nil
}

// within calls f until it has no error, for so long at most.
func (p *process) within(ctx context.Context, most time.Duration, f func() error) error {
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	timeout := time.NewTimer(most)
	defer timeout.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case ended := <-p.exited:
			p.exited <- ended // stop wants it too
			return fmt.Errorf("%s ended before it was ready: %s", p.name, p.tail())
		case <-timeout.C:
			return fmt.Errorf("%s is not ready after %s: %w", p.name, most, err)
		case <-ctx.Done():
			return ctx.Err()
		}
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
