package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyledger/keyledger/ledger/server"
)

const (
	childDir    = "KEYLEDGER_FAULTS_DIR"    // set: this process is a keyledger on that directory
	childListen = "KEYLEDGER_FAULTS_LISTEN" // and listens there
	childLogMax = "KEYLEDGER_FAULTS_LOG"    // and its log may have so many bytes
	childQuick  = "KEYLEDGER_FAULTS_QUICK"  // set: webhooks are tried again by hookDelays
	roundsEnv   = "KEYLEDGER_FAULTS_ROUNDS" // how many rounds a fault test runs
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := serveChild(dir, os.Getenv(childListen)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			if errors.Is(err, server.ErrStorageFailed) {
				os.Exit(exitStorage)
			}
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if programDir != "" {
		_ = os.RemoveAll(programDir) // a temporary directory
	}
	os.Exit(code)
}

// serveChild is a keyledger in a process of its own, to be killed.
func serveChild(dir, listen string) error {
	logMax, _ := strconv.ParseInt(os.Getenv(childLogMax), 10, 64) // not set: 0, the default
	var schedule []time.Duration                                  // the default
	if os.Getenv(childQuick) != "" {
		schedule = hookDelays
	}
	s, err := server.Open(server.Config{
		RetrySchedule: schedule,
		DataDir:       dir, LogBytesMax: logMax, Listen: listen, HTTP: "off", Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		AllowHTTPEndpoints: true, AllowEndpointNets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		SnapshotEvery: 500, SnapshotPause: 20 * time.Millisecond, // so that a kill finds one at any step
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-s.Ready()
		fmt.Println("ready")
	}()
	return errors.Join(s.Run(ctx), s.Close())
}

// child is a keyledger process.
type child struct {
	t      *testing.T
	dir    string
	listen string
	logMax int64 // of the log, 0: the default
	quick  bool  // webhooks are tried again by hookDelays
	cmd    *exec.Cmd
}

// newChild picks a port that stays the same over restarts.
func newChild(t *testing.T) *child {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := &child{t: t, dir: t.TempDir(), listen: l.Addr().String()}
	t.Cleanup(func() {
		if c.cmd != nil {
			c.kill()
		}
	})
	return c
}

func (c *child) url() string { return "nats://" + c.listen }

// start returns when the process serves.
func (c *child) start() {
	c.t.Helper()
	c.cmd = exec.Command(os.Args[0])
	c.cmd.Env = append(os.Environ(), childDir+"="+c.dir, childListen+"="+c.listen, childLogMax+"="+strconv.FormatInt(c.logMax, 10))
	if c.quick {
		c.cmd.Env = append(c.cmd.Env, childQuick+"=1")
	}
	c.cmd.Stderr = c.t.Output()
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "ready" {
		c.t.Fatalf("the child said %q, %v", line, err)
	}
}

// kill is kill -9: no handler runs, nothing is flushed.
func (c *child) kill() {
	c.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
	_ = c.cmd.Wait() // "signal: killed"
	c.cmd = nil
}
