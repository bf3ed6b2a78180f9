package faults

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds waits that take a moment when all is well.
const patience = 30 * time.Second

// programDir is where the program was built, "" while it is not.
var programDir string

// buildProgram builds the program that ships, once for all tests. TestMain removes it.
var buildProgram = sync.OnceValues(func() (path string, err error) {
	if programDir, err = os.MkdirTemp("", "keyledger-faults"); err != nil {
		return "", err
	}
	path = filepath.Join(programDir, "keyledger")
	if out, err := exec.Command("go", "build", "-o", path, "../../cmd/keyledger").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build keyledger: %w: %s", err, out)
	}
	return path, nil
})

// keyledger makes a command of the real program, without this process's settings.
func keyledger(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := buildProgram()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = []string{"HOME=" + t.TempDir()}
	return cmd
}

// program is the real keyledger serve.
type program struct {
	*child
	flags []string
}

// newProgram is one that will serve on dir, on the same port each time.
func newProgram(t *testing.T, dir string, flags ...string) *program {
	t.Helper()
	p := &program{child: newChild(t), flags: flags}
	p.dir = dir
	return p
}

func (p *program) serve() *exec.Cmd {
	return keyledger(p.t, append([]string{"serve", "--data-dir", p.dir, "--listen", p.listen, "--http", "off",
		"--allow-http-endpoints", "--allow-endpoint-net", "127.0.0.0/8"}, p.flags...)...)
}

// start returns when the program serves.
func (p *program) start() {
	p.t.Helper()
	p.cmd = p.serve()
	p.cmd.Stderr = p.t.Output()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "keyledger ready ") {
		p.t.Fatalf("the program said %q, %v", line, err)
	}
}

// refused starts the program where it must not serve, and returns what it says.
func (p *program) refused() string {
	p.t.Helper()
	cmd := p.serve()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }) // it may have ended by itself
	err := cmd.Wait()
	late.Stop()
	if cmd.ProcessState.ExitCode() != 1 || stdout.Len() > 0 {
		p.t.Fatalf("the program ended with %v and said %q where it had to refuse", err, stdout.String())
	}
	return stderr.String()
}

// freeze stops the process (SIGSTOP) and returns once none of its threads runs: what the
// kernel was doing for them is done, and nothing more comes.
func (p *program) freeze() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		p.t.Fatal(err)
	}
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for deadline := time.After(patience); ; {
		still, err := stopped(p.cmd.Process.Pid)
		if err != nil {
			p.t.Fatal(err)
		}
		if still {
			return
		}
		select {
		case <-look.C:
		case <-deadline:
			p.t.Fatal("the process does not stop")
		}
	}
}

// thaw lets it go on (SIGCONT).
func (p *program) thaw() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		p.t.Fatal(err)
	}
}

// stopped reports whether every thread of a process is stopped: state T, the first field
// behind the name in /proc/<pid>/task/<tid>/stat (proc(5)).
func stopped(pid int) (bool, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(files) == 0 {
		return false, fmt.Errorf("look at the threads of %d: none found, %w", pid, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread ended
		}
		if err != nil {
			return false, err
		}
		_, state, _ := strings.Cut(string(text), ") ")
		if !strings.HasPrefix(state, "T") {
			return false, nil
		}
	}
	return true, nil
}
