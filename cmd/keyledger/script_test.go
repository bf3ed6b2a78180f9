package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/oklog/ulid/v2"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyledger/keyledger/testing/receiver"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"keyledger": main})
}

// noRaceNap keeps a program under the race detector from lingering for a second when it
// ends.
const noRaceNap = "atexit_sleep_ms=0"

// TestScripts runs the program itself, as a process of its own, as the scripts say.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Values[worldKey{}] = &world{servers: map[string]*process{}}
			env.Setenv("GORACE", noRaceNap)
			env.Setenv("ID1", ulid.Make().String())
			env.Setenv("ID2", ulid.Make().String())
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve":          cmdServe,
			"shutdown":       cmdShutdown,
			"crash":          cmdCrash,
			"exits":          cmdExits,
			"capture":        cmdCapture,
			"save":           cmdSave,
			"mode":           cmdMode,
			"contextfile":    cmdContextFile,
			"receiver":       cmdReceiver,
			"receiversecret": cmdReceiverSecret,
			"receiverwait":   cmdReceiverWait,
			"untilendpoint":  cmdUntilEndpoint,
			"attempts":       cmdAttempts,
		},
	})
}

// process is a keyledger serve.
type process struct {
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr bytes.Buffer // to be read after Wait
}

// world is what one script has started.
type world struct {
	servers map[string]*process // by data directory
	hooks   *receiver.Server    // nil until the command receiver
}

type worldKey struct{}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

// serve DIR [FLAG...] starts a server on DIR and a free port, waits until it is ready,
// and sets KEYLEDGER_SERVER and KEYLEDGER_DATA_DIR for the commands that follow.
func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: serve DIR [FLAG...]")
	}
	dir := ts.MkAbs(args[0])
	program, err := exec.LookPath("keyledger")
	ts.Check(err)
	flags := append([]string{"serve", "--data-dir", dir, "--listen", "127.0.0.1:0", "--http", "off"}, args[1:]...)
	p := &process{cmd: exec.Command(program, flags...)}
	p.cmd.Dir = ts.Getenv("WORK")
	p.cmd.Env = []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), "GORACE=" + noRaceNap}
	p.cmd.Stderr = &p.stderr
	stdout, err := p.cmd.StdoutPipe()
	ts.Check(err)
	p.stdout = bufio.NewReader(stdout)
	ts.Check(p.cmd.Start())
	worldOf(ts).servers[dir] = p
	ts.Defer(func() {
		if worldOf(ts).servers[dir] == p {
			p.cmd.Process.Kill()
			p.cmd.Wait()
			ts.Logf("[serve %s]\n%s", dir, p.stderr.String())
		}
	})
	line, err := p.stdout.ReadString('\n')
	url, ready := strings.CutPrefix(strings.TrimSpace(line), "keyledger ready ")
	if err != nil || !ready {
		ts.Fatalf("serve printed %q (%v) instead of its ready line", line, err)
	}
	ts.Setenv("KEYLEDGER_SERVER", url)
	ts.Setenv("KEYLEDGER_DATA_DIR", dir)
}

// shutdown DIR interrupts the server on DIR. It must end with exit code 0, having printed
// nothing but its ready line. Its standard error is what stderr sees.
func cmdShutdown(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: shutdown DIR")
	}
	dir := ts.MkAbs(args[0])
	p := worldOf(ts).servers[dir]
	if p == nil {
		ts.Fatalf("no server on %s", dir)
	}
	ts.Check(p.cmd.Process.Signal(os.Interrupt))
	more, err := io.ReadAll(p.stdout)
	ts.Check(err)
	err = p.cmd.Wait()
	delete(worldOf(ts).servers, dir)
	io.WriteString(ts.Stderr(), p.stderr.String())
	if err != nil {
		ts.Fatalf("serve ended with %v: %s", err, p.stderr.String())
	}
	if len(more) > 0 {
		ts.Fatalf("serve printed more than its ready line: %s", more)
	}
}

// crash DIR ends the server on DIR as kill -9 does.
func cmdCrash(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: crash DIR")
	}
	dir := ts.MkAbs(args[0])
	p := worldOf(ts).servers[dir]
	if p == nil {
		ts.Fatalf("no server on %s", dir)
	}
	ts.Check(p.cmd.Process.Kill())
	_ = p.cmd.Wait() // "signal: killed"
	delete(worldOf(ts).servers, dir)
}

// exits CODE COMMAND... runs a command that must end with this exit code.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	switch err := ts.Exec(args[1], args[2:]...); {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, not %d", got, want)
	}
}

// capture NAME PATH sets a variable to a member of the JSON object on standard output,
// such as key.id. With ! the member must not be there.
func cmdCapture(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] capture NAME MEMBER[.MEMBER...]")
	}
	value, found := memberOf(ts, args[1])
	switch {
	case found && neg:
		ts.Fatalf("member %s is there", args[1])
	case !found && !neg:
		ts.Fatalf("no member %s", args[1])
	case found:
		ts.Setenv(args[0], value)
	}
}

// save FILE MEMBER writes a member to a file.
func cmdSave(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: save FILE MEMBER[.MEMBER...]")
	}
	value, found := memberOf(ts, args[1])
	if !found {
		ts.Fatalf("no member %s", args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(value), 0o600))
}

// mode FILE MODE checks a file's permissions, in octal.
func cmdMode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode FILE MODE")
	}
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[1] {
		ts.Fatalf("mode %s, not %s", got, args[1])
	}
}

// memberOf is a member of the JSON object on standard output: a string as it is, anything
// else in JSON.
func memberOf(ts *testscript.TestScript, path string) (text string, found bool) {
	value := jsontext.Value(ts.ReadFile("stdout"))
	for member := range strings.SplitSeq(path, ".") {
		var list []jsontext.Value
		if value.Kind() == '[' && json.Unmarshal(value, &list) == nil && len(list) > 0 {
			value = list[0]
		}
		var object map[string]jsontext.Value
		ts.Check(json.Unmarshal(value, &object))
		if value, found = object[member]; !found {
			return "", false
		}
	}
	if json.Unmarshal(value, &text) != nil {
		text = string(value)
	}
	return text, true
}

// contextfile FILE SEED writes a NATS CLI context for the server of KEYLEDGER_SERVER.
func cmdContextFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: contextfile FILE SEED")
	}
	body, err := json.Marshal(map[string]string{"url": ts.Getenv("KEYLEDGER_SERVER"), "nkey": ts.MkAbs(args[1])})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), body, 0o600))
}

// receiver starts a webhook receiver and sets RECEIVER to its URL.
func cmdReceiver(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: receiver")
	}
	r, err := receiver.Start()
	ts.Check(err)
	ts.Defer(func() { r.Close() })
	ts.Setenv("RECEIVER", r.URL)
	worldOf(ts).hooks = r
}

// receiversecret PATH SECRET registers a path.
func cmdReceiverSecret(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: receiversecret PATH SECRET")
	}
	ts.Check(worldOf(ts).hooks.Register(args[0], args[1]))
}

// receiverwait PATH COUNT waits until so many events are verified on a path and prints
// each one's sequence, type and data, in the order of their sequence.
func cmdReceiverWait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: receiverwait PATH COUNT")
	}
	r, path := worldOf(ts).hooks, args[0]
	count, err := strconv.Atoi(args[1])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), receiverPatience)
	defer cancel()
	ts.Check(r.Wait(ctx, func(receiver.Totals) bool { return len(r.Events(path)) >= count }))
	got := r.Events(path)
	slices.SortFunc(got, func(a, b receiver.Event) int { return strings.Compare(a.Sequence, b.Sequence) })
	for _, e := range got {
		fmt.Fprintln(ts.Stdout(), e.Sequence, e.Type, string(e.Data))
	}
}

// untilendpoint ACCOUNT waits until the account has an endpoint.
func cmdUntilEndpoint(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: untilendpoint ACCOUNT")
	}
	for deadline := time.Now().Add(receiverPatience); time.Now().Before(deadline); {
		ts.Check(ts.Exec("keyledger", "webhook", "list", args[0]))
		if strings.Contains(ts.ReadFile("stdout"), "endpoint_") {
			return
		}
	}
	ts.Fatalf("account %s has no endpoint", args[0])
}

// receiverPatience is how long receiverwait waits before it fails.
const receiverPatience = 30 * time.Second
