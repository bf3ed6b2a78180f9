package server

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"
)

// envHolder makes a run of this test binary hold the data directory it names.
const envHolder = "KEYLEDGER_TEST_HOLD_DATA_DIR"

func openTestDir(t *testing.T, dir string) *dataDir {
	t.Helper()
	d, err := openDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() }) // some tests close it before
	return d
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got error %v, want one that says %q", err, part)
		}
	}
}

func TestDataDirIsMadePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "data")
	d := openTestDir(t, dir)
	for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, fileLock): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %#o, want %#o", path, got, want)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	openTestDir(t, dir) // released
}

func TestDataDirRefusals(t *testing.T) {
	if _, err := openDataDir(""); err == nil {
		t.Error("no directory: accepted")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := openDataDir(file)
	wantError(t, err, file)
}

func TestDataDirTakesOneProcess(t *testing.T) {
	dir := t.TempDir()
	openTestDir(t, dir)
	_, err := openDataDir(dir)
	wantError(t, err, dir, "another keyledger is running on it")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	_, err = openDataDir(link)
	wantError(t, err, "another keyledger is running on it")
}

// The holder of the lock is another process, and is killed: the kernel releases it.
func TestDataDirIsFreeAfterAKill(t *testing.T) {
	dir := t.TempDir()
	holder := exec.Command(os.Args[0], "-test.run=^TestHoldDataDir$")
	holder.Env = append(os.Environ(), envHolder+"="+dir)
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("the holder said %q, %v", line, err)
	}
	_, err = openDataDir(dir)
	wantError(t, err, dir, "another keyledger is running on it")
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait() // "signal: killed"
	openTestDir(t, dir)
}

// TestHoldDataDir is the other process of TestDataDirIsFreeAfterAKill.
func TestHoldDataDir(t *testing.T) {
	dir := os.Getenv(envHolder)
	if dir == "" {
		t.Skip("runs as a process of its own only")
	}
	openTestDir(t, dir)
	fmt.Println("held")
	_, _ = io.Copy(io.Discard, os.Stdin) // until killed, or the parent is gone
}

func TestSyncTreeReachesEverything(t *testing.T) {
	root, elsewhere := resolved(t, t.TempDir()), resolved(t, t.TempDir())
	for _, path := range []string{
		filepath.Join(root, "head"), filepath.Join(root, "nats", "jetstream", "1.blk"),
		filepath.Join(root, "nats", "jetstream", "empty"), filepath.Join(elsewhere, "2.blk"),
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []string{"moved", "again"} {
		if err := os.Symlink(elsewhere, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(root, filepath.Join(root, "nats", "loop")); err != nil {
		t.Fatal(err)
	}
	var synced []string
	err := syncTree(root, func(f *os.File) error {
		synced = append(synced, f.Name())
		return f.Sync()
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{ // a directory after what is in it
		elsewhere + "/2.blk", elsewhere, root + "/head",
		root + "/nats/jetstream/1.blk", root + "/nats/jetstream/empty", root + "/nats/jetstream", root + "/nats", root,
	}
	if !slices.Equal(synced, want) {
		t.Errorf("synced\n%s\nwant\n%s", strings.Join(synced, "\n"), strings.Join(want, "\n"))
	}
}

func TestSyncTreeReportsAFailedSync(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "block"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := syncTree(root, func(f *os.File) error {
		if filepath.Base(f.Name()) == "block" {
			return io.ErrShortWrite
		}
		return f.Sync()
	})
	wantError(t, err, "block", io.ErrShortWrite.Error())
}

// A store on a volume that is not mounted must stop the start, not look empty. That it
// does shows as well that opening syncs all that is in the directory.
func TestDataDirWithAMissingVolume(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, "not-mounted"), filepath.Join(dir, dirNATS)); err != nil {
		t.Fatal(err)
	}
	_, err := openDataDir(dir)
	wantError(t, err, dir, "durable", "not-mounted")
	if err := os.Remove(filepath.Join(dir, dirNATS)); err != nil {
		t.Fatal(err)
	}
	openTestDir(t, dir) // and the refusal did not keep the lock
}

func resolved(t *testing.T, dir string) string {
	t.Helper()
	path, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOperatorKey(t *testing.T) {
	d := openTestDir(t, t.TempDir())
	// Left by a start that stopped before the rename, and readable by others.
	if err := os.WriteFile(d.operatorKeyPath()+".tmp", []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	first, err := d.operatorKey()
	if err != nil {
		t.Fatal(err)
	}
	if !nkeys.IsValidPublicUserKey(first) {
		t.Errorf("%q is not a public user key", first)
	}
	info, err := os.Stat(d.operatorKeyPath())
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %#o, want 0600", info.Mode().Perm())
	}
	if _, err := os.Stat(d.operatorKeyPath() + ".tmp"); !os.IsNotExist(err) {
		t.Errorf("the temporary file: %v, want none", err)
	}
	second, err := d.operatorKey()
	if err != nil || second != first {
		t.Errorf("the second start has %q, %v; want the same key", second, err)
	}
}

func TestOperatorKeyRefusals(t *testing.T) {
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	accountSeed, err := account.Seed()
	if err != nil {
		t.Fatal(err)
	}
	user, public := newUser(t)
	userSeed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	damaged := slices.Clone(userSeed)
	if damaged[20]++; damaged[20] > 'Y' { // another letter of its alphabet
		damaged[20] = 'A'
	}
	for name, tc := range map[string]struct {
		text string
		mode fs.FileMode
		want string
	}{
		"group can read":      {string(userSeed), 0o640, "chmod 600"},
		"others can write":    {string(userSeed), 0o602, "chmod 600"},
		"can be executed":     {string(userSeed), 0o700, "chmod 600"},
		"no seed":             {"not a seed", 0o600, "holds no nkey seed"},
		"empty":               {"", 0o600, "holds no nkey seed"},
		"public key":          {public, 0o600, "holds no nkey seed"},
		"one letter replaced": {string(damaged), 0o600, "holds no nkey seed"},
		"account seed":        {string(accountSeed), 0o600, "not a user's"},
		"a novel":             {strings.Repeat("x", 5000), 0o600, "too many"},
	} {
		t.Run(name, func(t *testing.T) {
			d := openTestDir(t, t.TempDir())
			put(t, d.operatorKeyPath(), tc.text, tc.mode)
			_, err := d.operatorKey()
			wantError(t, err, d.operatorKeyPath(), tc.want)
			if err != nil && len(tc.text) > 10 && strings.Contains(err.Error(), tc.text[:10]) {
				t.Errorf("the error quotes the file: %v", err)
			}
		})
	}
	d := openTestDir(t, t.TempDir())
	put(t, d.operatorKeyPath(), "\n"+string(userSeed)+"\r\n", 0o400)
	if got, err := d.operatorKey(); err != nil || got != public {
		t.Errorf("a read-only file with blanks: got %q, %v", got, err)
	}
	d = openTestDir(t, t.TempDir())
	if err := os.Mkdir(d.operatorKeyPath(), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = d.operatorKey()
	wantError(t, err, "not a regular file")
}

func put(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

func TestSealKey(t *testing.T) {
	d := openTestDir(t, t.TempDir())
	path := filepath.Join(d.path, fileSealKey)
	first, err := d.sealKey("")
	if err != nil {
		t.Fatal(err)
	}
	if first == ([sealKeyBytes]byte{}) {
		t.Error("the key is all zeros")
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %#o, want 0600", info.Mode().Perm())
	}
	asHex, asBase64 := hex.EncodeToString(first[:]), base64.StdEncoding.EncodeToString(first[:])
	for name, env := range map[string]string{"file": "", "same in hex": asHex, "same in base64": asBase64 + "\n"} {
		if got, err := d.sealKey(env); err != nil || got != first {
			t.Errorf("%s: got another key, or %v", name, err)
		}
	}
	put(t, path, asHex, 0o600)
	if got, err := d.sealKey(""); err != nil || got != first {
		t.Errorf("file in hex: got another key, or %v", err)
	}
	other, err := openTestDir(t, t.TempDir()).sealKey("")
	if err != nil || other == first {
		t.Errorf("two ledgers share a key, or %v", err)
	}
	_, err = d.sealKey(hex.EncodeToString(other[:]))
	wantError(t, err, envSealKey, path, "different keys")
}

func TestSealKeyFromEnvironmentIsNotWrittenDown(t *testing.T) {
	d := openTestDir(t, t.TempDir())
	key := [sealKeyBytes]byte{1, 2, 3}
	got, err := d.sealKey(hex.EncodeToString(key[:]))
	if err != nil || got != key {
		t.Fatalf("got %v, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(d.path, fileSealKey)); !os.IsNotExist(err) {
		t.Errorf("the key's file: %v, want none", err)
	}
}

func TestSealKeyRefusals(t *testing.T) {
	good := hex.EncodeToString(make([]byte, sealKeyBytes))
	for name, text := range map[string]string{
		"short": good[:62], "long": good + "00", "not text": "\x00\x01", "blank": " ", "neither": strings.Repeat("z!", 32),
	} {
		d := openTestDir(t, t.TempDir())
		_, err := d.sealKey(text)
		wantError(t, err, envSealKey, "32 bytes")
		path := filepath.Join(d.path, fileSealKey)
		put(t, path, text, 0o600)
		_, err = d.sealKey("")
		wantError(t, err, path, "32 bytes")
		if len(text) > 8 && strings.Contains(err.Error(), text[:8]) {
			t.Errorf("%s: the error quotes the key: %v", name, err)
		}
	}
	d := openTestDir(t, t.TempDir())
	put(t, filepath.Join(d.path, fileSealKey), good, 0o644)
	_, err := d.sealKey("")
	wantError(t, err, "chmod 600")
	_, err = d.sealKey(good) // the variable does not excuse the file
	wantError(t, err, "chmod 600")
}

func TestSealKeyLost(t *testing.T) {
	dir := t.TempDir()
	d := openTestDir(t, dir)
	key, err := d.sealKey("")
	if err != nil {
		t.Fatal(err)
	}
	newRig(t, func(o *natsOptions) { o.StoreDir = d.natsDir() }).nats.Close()
	path := filepath.Join(d.path, fileSealKey)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, err = d.sealKey("")
	wantError(t, err, path, "missing", "restore", envSealKey)
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("a key was made anew: %v", err)
	}
	if got, err := d.sealKey(hex.EncodeToString(key[:])); err != nil || got != key {
		t.Errorf("the key from its backup: %v", err)
	}
}
