package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// profiledCode is put into keyledger's main package where it is to be profiled: it tells
// the file in profiledEnv where net/http/pprof answers.
const profiledCode = `package main

import (
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
)

func init() {
	file := os.Getenv("` + profiledEnv + `")
	if file == "" {
		return
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		err = os.WriteFile(file, []byte("http://"+listener.Addr().String()), 0o600)
	}
	if err != nil {
		panic(err)
	}
	go http.Serve(listener, nil)
}
`

const profiledEnv = "KEYLEDGER_BENCH_PPROF"

// buildProfiled builds the program that is measured with pprof in it.
func buildProfiled(ctx context.Context, dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	const name = "github.com/keyledger/keyledger/cmd/keyledger"
	where, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", name).Output()
	if err != nil {
		return "", fmt.Errorf("find keyledger's code: %w", err)
	}
	code, overlay, program := dir+"/profiled.go", dir+"/overlay.json", dir+"/profiled"
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(strings.TrimSpace(string(where)), "bench_profiled.go"): code}})
	if err != nil {
		return "", err
	}
	for file, content := range map[string][]byte{code: []byte(profiledCode), overlay: text} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			return "", err
		}
	}
	out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-overlay", overlay, "-o", program, name).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build keyledger with pprof: %w\n%s", err, out)
	}
	return program, nil
}

// profileURL is the file in which a keyledger tells where it can be profiled, from the
// directory it runs on.
func profileURL(ledger string) string { return ledger + ".pprof" }

// shim has a keyledger that is to be profiled tell where, on a directory.
func (c *hooksConfig) shim(ledger string) []string {
	if c.profile == "" {
		return nil
	}
	return []string{"env", profiledEnv + "=" + profileURL(ledger)}
}

// saveProfile saves a profile of so long, if one is asked for.
func (c *hooksConfig) saveProfile(ctx context.Context, p *process, over time.Duration) error {
	if c.profile == "" {
		return nil
	}
	url, err := os.ReadFile(profileURL(strings.TrimSuffix(p.log, ".log")))
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/debug/pprof/profile?seconds=%.0f", url, max(over.Seconds(), 1)), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	profile, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("profile keyledger: %s", profile)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(c.profile, profile, 0o600)
}
