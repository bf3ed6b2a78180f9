package server

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
	"github.com/nats-io/nkeys"

	"github.com/keyledger/keyledger/events/store"
)

// The files of a data directory. Names are stored: they are forever.
const (
	// fileLock is locked (flock) for as long as a keyledger runs on the directory.
	// It is never removed: a removed lock file can be locked twice.
	fileLock = "lock"
	// fileOperator holds the operator's user nkey seed, mode 0600.
	fileOperator = "operator.nk"
	// fileSealKey holds the sealing key, mode 0600: 32 bytes, written as base64.
	fileSealKey = "seal.key"
	// fileCredentials holds who may connect besides the operator, mode 0600: JSON.
	fileCredentials = "credentials.json"
	// dirNATS is the NATS store directory: the log and all that is derived from it.
	dirNATS = "nats"
	// dirArchive is where the archive keeps its segments, which are made again from the log.
	dirArchive = "archive"

	// envSealKey is the environment variable that can stand in for fileSealKey.
	envSealKey = "KEYLEDGER_SEAL_KEY"

	modeDir    fs.FileMode = 0o700
	modeSecret fs.FileMode = 0o600

	// sealKeyBytes is the size of the sealing key: AES-256.
	sealKeyBytes = 32
)

// ErrInUse means that a data directory is locked by another process.
var ErrInUse = errors.New("another keyledger is running on it")

// dataDir is an open data directory: locked by this process, and with all that a
// former process left in the page cache made durable.
type dataDir struct {
	path string       // absolute, links resolved
	lock *flock.Flock // held until Close
}

// openDataDir creates dir if need be (mode 0700), locks it, and makes everything
// in it durable. It must run before NATS starts. A directory that a restore left
// unfinished is refused.
//
// The lock comes first: NATS takes none of its own, and two servers on one store
// would overwrite each other's blocks. The sync comes next: a record that kill -9
// left in the page cache reads like a durable one, so without it the ledger could
// serve a record and lose it afterwards to a power cut.
//
// Errors name the directory. One that another process has locked is refused at
// once, without waiting.
func openDataDir(dir string) (*dataDir, error) {
	d, err := lockDataDir(dir)
	if err != nil {
		return nil, err
	}
	if err := d.checkRestored(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if err := syncTree(d.path, (*os.File).Sync); err != nil {
		return nil, errors.Join(fmt.Errorf("make data directory %s durable: %w", d.path, err), d.Close())
	}
	return d, nil
}

// lockDataDir creates dir if need be and locks it.
func lockDataDir(dir string) (*dataDir, error) {
	if dir == "" {
		return nil, errors.New("open data directory: no directory given")
	}
	path, err := makeDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open data directory %s: %w", dir, err)
	}
	lock := flock.New(filepath.Join(path, fileLock), flock.SetPermissions(modeSecret))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock data directory %s: %w", path, err)
	}
	if !locked {
		return nil, fmt.Errorf("open data directory %s: %w (it holds %s); stop that one, or give this one a directory of its own",
			path, ErrInUse, lock.Path())
	}
	return &dataDir{path: path, lock: lock}, nil
}

// Close releases the lock. NATS must have been shut down before.
func (d *dataDir) Close() error {
	if err := d.lock.Close(); err != nil {
		return fmt.Errorf("unlock data directory %s: %w", d.path, err)
	}
	return nil
}

// natsDir is where NATS keeps its streams.
func (d *dataDir) natsDir() string { return filepath.Join(d.path, dirNATS) }

// archiveDir is where the archive keeps its files.
func (d *dataDir) archiveDir() string { return filepath.Join(d.path, dirArchive) }

// viewsDir is where the checkpoints of the views lie.
func (d *dataDir) viewsDir() string { return filepath.Join(d.path, store.DirViews) }

// webhooksDir is where the directory of webhook endpoints is saved.
func (d *dataDir) webhooksDir() string { return filepath.Join(d.path, store.DirWebhooks) }

// operatorKeyPath is where the operator's credential lies, for the CLI on the same
// machine (nats.NkeyOptionFromSeed reads it).
func (d *dataDir) operatorKeyPath() string { return filepath.Join(d.path, fileOperator) }

// credentialsPath is where the credentials are.
func (d *dataDir) credentialsPath() string { return filepath.Join(d.path, fileCredentials) }

// operatorKey is the operator's public user nkey ("U…"), whose seed lies in
// operator.nk. The first start makes it; the seed itself never leaves the file.
//
// A file that others could read or write, or that holds no user seed, is refused:
// whoever has read the seed is the operator.
func (d *dataDir) operatorKey() (string, error) {
	path := d.operatorKeyPath()
	text, err := readSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		return d.makeOperatorKey()
	}
	if err != nil {
		return "", fmt.Errorf("read operator key: %w", err)
	}
	pair, err := nkeys.FromSeed([]byte(text))
	if err != nil {
		return "", fmt.Errorf("read operator key %s: it holds no nkey seed (%w); restore it, or move it away and a new one is made at the next start", path, err)
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err != nil {
		return "", fmt.Errorf("read operator key %s: %w", path, err)
	}
	if !nkeys.IsValidPublicUserKey(public) {
		return "", fmt.Errorf("read operator key %s: it holds a seed that is not a user's (a user seed begins with SU)", path)
	}
	return public, nil
}

func (d *dataDir) makeOperatorKey() (string, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return "", fmt.Errorf("make operator key: %w", err)
	}
	defer pair.Wipe()
	seed, err := pair.Seed()
	if err != nil {
		return "", fmt.Errorf("make operator key: %w", err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return "", fmt.Errorf("make operator key: %w", err)
	}
	if err := writeSecret(d.operatorKeyPath(), string(seed)); err != nil {
		return "", fmt.Errorf("make operator key: %w", err)
	}
	return public, nil
}

// sealKey is the key that seals what the log must be able to give back: endpoint
// signing secrets and custom header values. fromEnv is the value of
// KEYLEDGER_SEAL_KEY, empty if unset; it stands in for the file and is never
// written down. Both forms are text, base64 or hex, of 32 bytes.
//
// The first start makes the file. A data directory that already holds a log but no
// key is refused: a new key would open nothing that the log has sealed, and every
// webhook would fail its signature without anyone knowing why. So is a file that
// differs from the variable, for the same reason.
func (d *dataDir) sealKey(fromEnv string) ([sealKeyBytes]byte, error) {
	var none [sealKeyBytes]byte
	path := filepath.Join(d.path, fileSealKey)
	text, err := readSecret(path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return none, fmt.Errorf("read seal key: %w", err)
	}
	var file [sealKeyBytes]byte
	if !missing {
		if file, err = parseSealKey(text); err != nil {
			return none, fmt.Errorf("read seal key %s: %w; restore it from its backup", path, err)
		}
	}
	if fromEnv != "" {
		key, err := parseSealKey(fromEnv)
		if err != nil {
			return none, fmt.Errorf("read seal key from %s: %w", envSealKey, err)
		}
		if !missing && key != file {
			return none, fmt.Errorf("read seal key: %s and %s hold different keys; keep the one that sealed this ledger", envSealKey, path)
		}
		return key, nil
	}
	if !missing {
		return file, nil
	}
	return d.makeSealKey(path)
}

func (d *dataDir) makeSealKey(path string) ([sealKeyBytes]byte, error) {
	var none, key [sealKeyBytes]byte
	// The key is made before NATS first starts, so a store with anything in it
	// had a key once.
	held, err := os.ReadDir(d.natsDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return none, fmt.Errorf("make seal key: %w", err)
	}
	if len(held) > 0 {
		return none, fmt.Errorf("seal key %s is missing, but %s holds a log sealed with it: restore the file from its backup, or give the key in %s; "+
			"without it the webhook secrets in this log cannot be opened, and keyledger will not replace it by itself", path, d.natsDir(), envSealKey)
	}
	if _, err := rand.Read(key[:]); err != nil {
		return none, fmt.Errorf("make seal key: %w", err)
	}
	if err := writeSecret(path, base64.StdEncoding.EncodeToString(key[:])); err != nil {
		return none, fmt.Errorf("make seal key: %w", err)
	}
	return key, nil
}

// parseSealKey reads 32 bytes written as base64 or hex. Its errors never quote the text.
func parseSealKey(text string) ([sealKeyBytes]byte, error) {
	var key [sealKeyBytes]byte
	text = strings.TrimSpace(text)
	raw, err := hex.DecodeString(text)
	if err != nil {
		raw, err = base64.StdEncoding.DecodeString(text)
	}
	if err != nil || len(raw) != sealKeyBytes {
		return key, fmt.Errorf("it is not %d bytes in base64 or hex", sealKeyBytes)
	}
	copy(key[:], raw)
	return key, nil
}

// readSecret is the trimmed text of a secret file. A file that anyone but its owner
// can touch is refused; fs.ErrNotExist means there is none.
func readSecret(path string) (string, error) {
	return readPrivate(path, 4096) // a seed has 58 bytes, a key 44
}

// readPrivate is readSecret for files of another size, in bytes.
func readPrivate(path string, sizeMax int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&^modeSecret != 0 {
		return "", fmt.Errorf("%s has mode %#o, which lets others than its owner at it: chmod 600 it, and if others may have read it, replace it", path, mode)
	}
	if info.Size() > sizeMax {
		return "", fmt.Errorf("%s has %d bytes, too many: at most %d are its own", path, info.Size(), sizeMax)
	}
	text := make([]byte, info.Size())
	if _, err := f.ReadAt(text, 0); err != nil && info.Size() > 0 {
		return "", err
	}
	return strings.TrimSpace(string(text)), nil
}

// writeSecret writes a file of mode 0600, whole or not at all, and durable when it
// returns; it takes the place of one that is there. The directory's lock is held, so nobody
// else writes it.
func writeSecret(path, text string) error {
	tmp := path + ".tmp"
	// A former start may have stopped between here and the rename. What it left was
	// never used: it did not have the final name.
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, modeSecret)
	if err != nil {
		return err
	}
	// If we stop here: an empty temporary file, removed by the next write.
	if _, err := f.WriteString(text + "\n"); err != nil {
		return errors.Join(err, f.Close(), os.Remove(tmp))
	}
	// If we stop here: a temporary file, perhaps not whole; likewise.
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close(), os.Remove(tmp))
	}
	if err := f.Close(); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	// If we stop here: a whole temporary file that nobody has used; likewise.
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	// If we stop here: the file is there, whole, but a power cut may take its name
	// away again. Nobody has used it yet: the caller learns of it after the next line.
	return syncPath(filepath.Dir(path), (*os.File).Sync)
}

// makeDir creates dir and the parents it lacks, durably, and returns its absolute
// path with links resolved.
func makeDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	var gainers []string // directories that gain an entry
	for p := abs; ; p = filepath.Dir(p) {
		_, err := os.Stat(p)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		gainers = append(gainers, filepath.Dir(p))
	}
	if err := os.MkdirAll(abs, modeDir); err != nil {
		return "", err
	}
	for _, p := range gainers {
		// If we stop before this: empty directories, or none after a power cut.
		if err := syncPath(p, (*os.File).Sync); err != nil {
			return "", err
		}
	}
	return filepath.EvalSymlinks(abs)
}
