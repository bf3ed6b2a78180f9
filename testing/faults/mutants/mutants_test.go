package mutants

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	root = "../../.."
	// runEnv makes TestEachMutantIsCaught run.
	runEnv = "KEYLEDGER_MUTANTS"
	// testTimeout bounds one test. A mutant that is only found by it is not found.
	testTimeout = 2 * time.Minute
)

// Every row fits the code, so that a row cannot fall behind unnoticed.
func TestEveryMutantApplies(t *testing.T) {
	for _, m := range table {
		if _, err := m.apply(); err != nil {
			t.Errorf("without %s: %v", m.without, err)
		}
		if _, err := os.Stat(filepath.Join(root, m.pkg)); err != nil {
			t.Error(err)
		}
	}
}

// The table in the documents is this one.
func TestTheTableStandsInTheDocuments(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range table {
		row := fmt.Sprintf("| %s | `%s` %s |\n", m.without, strings.TrimPrefix(m.pkg, "./"), m.test)
		if !bytes.Contains(text, []byte(row)) {
			t.Errorf("ARCHITECTURE.md lacks the row\n%s", row)
		}
	}
}

// Each mutant makes its test fail, by what the test asserts.
func TestEachMutantIsCaught(t *testing.T) {
	if os.Getenv(runEnv) == "" {
		t.Skipf("takes minutes: make mutants sets %s", runEnv)
	}
	for _, m := range table {
		t.Run(m.without, func(t *testing.T) {
			overlay, err := m.overlay(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			verdict := runTest(t, m, overlay)
			t.Logf("%-45s %-16s %-40s %-10s %s", m.without, m.pkg, m.test, verdict, time.Since(start).Round(100*time.Millisecond))
			if verdict != "caught" {
				t.Errorf("without %s, %s in %s: %s", m.without, m.test, m.pkg, verdict)
			}
		})
	}
}

// apply returns the changed files.
func (m *mutant) apply() (map[string]string, error) {
	files := map[string]string{}
	for _, e := range m.edits {
		text, ok := files[e.file]
		if !ok {
			b, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				return nil, err
			}
			text = string(b)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return nil, fmt.Errorf("%s has %d times, not once:\n%s", e.file, n, e.old)
		}
		files[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	return files, nil
}

// overlay writes the changed files into dir, with the map that go test -overlay takes.
func (m *mutant) overlay(dir string) (string, error) {
	files, err := m.apply()
	if err != nil {
		return "", err
	}
	base, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	var overlay struct{ Replace map[string]string }
	overlay.Replace = map[string]string{}
	for name, text := range files {
		changed := filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			return "", err
		}
		overlay.Replace[filepath.Join(base, name)] = changed
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, b, 0o600)
}

// runTest runs a mutant's test and says what became of it: "caught" when an assertion
// failed, else what happened instead.
func runTest(t *testing.T, m mutant, overlay string) string {
	ctx, cancel := context.WithTimeout(t.Context(), 2*testTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-json", "-count=1", "-timeout", testTimeout.String(), "-run", "^"+m.test+"$", m.pkg)
	cmd.Dir = root
	// Some tests build the program: a flag of ours would not reach that build.
	cmd.Env = append(os.Environ(), "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+overlay))
	if m.test == "TestWriterIsLinearizable" { // which stops at the first history that is not
		cmd.Env = append(cmd.Env, "KEYLEDGER_FAULTS_ROUNDS=20")
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("go test: %v", err)
	}
	verdict := verdictOf(stdout.String()+stderr.String(), m.test)
	if verdict != "caught" {
		t.Log(said(stdout.String()), stderr.String())
	}
	return verdict
}

// said is what a test printed.
func said(output string) string {
	var text strings.Builder
	for line := range strings.Lines(output) {
		var e struct{ Output string }
		if json.Unmarshal([]byte(line), &e) == nil {
			text.WriteString(e.Output)
		}
	}
	return text.String()
}

// verdictOf reads the lines of go test -json.
func verdictOf(output, test string) string {
	result := "did not run"
	for line := range strings.Lines(output) {
		var e struct{ Action, Test, Output string }
		if json.Unmarshal([]byte(line), &e) != nil {
			continue // of the go command itself
		}
		switch {
		case e.Action == "build-fail":
			return "does not build"
		case strings.HasPrefix(e.Output, "panic: test timed out"):
			return "timed out"
		case strings.HasPrefix(e.Output, "panic: "), strings.HasPrefix(e.Output, "fatal error: "):
			return "panicked"
		case e.Test == test && e.Action == "fail":
			result = "caught"
		case e.Test == test && e.Action == "pass":
			result = "survived"
		}
	}
	return result
}

// A mutant counts as caught only by an assertion.
func TestVerdictOf(t *testing.T) {
	for want, output := range map[string]string{
		"caught":         `{"Action":"output","Test":"TestX","Output":"want 1"}` + "\n" + `{"Action":"fail","Test":"TestX"}`,
		"survived":       `{"Action":"pass","Test":"TestX"}`,
		"did not run":    `{"Action":"output","Output":"testing: warning: no tests to run"}` + "\n" + `{"Action":"pass"}`,
		"timed out":      `{"Action":"output","Test":"TestX","Output":"panic: test timed out after 2m0s"}` + "\n" + `{"Action":"fail","Test":"TestX"}`,
		"panicked":       `{"Action":"output","Test":"TestX","Output":"panic: nil map"}` + "\n" + `{"Action":"fail","Test":"TestX"}`,
		"does not build": `{"ImportPath":"x","Action":"build-fail"}` + "\n" + `{"Action":"fail"}`,
	} {
		if got := verdictOf(output, "TestX"); got != want {
			t.Errorf("%s: %s", want, got)
		}
	}
}
