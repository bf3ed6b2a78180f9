package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
)

// postgres is a PostgreSQL of our own, with its defaults but for what is said in
// postgresSettings.
type postgres struct {
	server  *process
	bin     string
	dir     string // for pgbench's files, the server's data below it
	port    string
	row     *peerRow
	version string

	cfg       *peersConfig
	processed int64 // transactions, by pgbench's count
	rounds    int
}

// postgresSettings are what durability takes, and room: no checkpoint falls into a run
// because there is too little of it.
var postgresSettings = []string{
	"fsync=on", "synchronous_commit=on", "full_page_writes=on", "shared_buffers=512MB", "max_wal_size=8GB",
	"listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=100",
}

// postgresTables are the accounts, and the ids of the commands that were done: shorter
// ones than keyledger's, each client's in order.
const postgresTables = `
CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0)) WITH (fillfactor = 50);
CREATE TABLE commands (id bigint PRIMARY KEY, account bigint NOT NULL);
INSERT INTO accounts SELECT generate_series(0, %d), %d;
VACUUM ANALYZE;`

// postgresScript is pgbench's: one statement, which debits only if the id is new and the
// balance suffices.
const postgresScript = `\set account random(0, :accounts - 1)
\set n :n + 1
\set id :client_id * 1000000000000 + :n
WITH fresh AS (INSERT INTO commands (id, account) VALUES (:id, :account) ON CONFLICT DO NOTHING RETURNING account)
UPDATE accounts SET balance = balance - 1 FROM fresh WHERE accounts.id = fresh.account AND balance >= 1 RETURNING balance;
`

// postgresWrong counts the accounts whose balance is not what their commands left, and
// all commands.
const postgresWrong = `SELECT count(*) FILTER (WHERE balance <> %d - coalesce(n, 0)), coalesce(sum(n), 0)
FROM accounts LEFT JOIN (SELECT account, count(*) AS n FROM commands GROUP BY account) AS c ON c.account = accounts.id`

// startPostgres makes a cluster in a directory of its own and starts it on a free port.
// PostgreSQL does not run as root; there it runs as the package's user.
func startPostgres(ctx context.Context, cfg *peersConfig, programs *peerProgram, dir string) (p *postgres, err error) {
	p = &postgres{bin: programs.postgres, cfg: cfg, row: &peerRow{Name: "PostgreSQL, pgbench with 64 clients"}}
	p.row.run = p.run
	if p.dir, err = filepath.Abs(filepath.Join(dir, "postgres")); err != nil {
		return nil, err
	}
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p.port = strconv.Itoa(port)
	as, err := postgresUser(dir, p.dir)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(p.dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(p.bin, "initdb"), "-D", data, "-U", "bench", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-instructions")
	initdb.SysProcAttr = as
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	command := []string{filepath.Join(p.bin, "postgres"), "-D", data, "-p", p.port}
	for _, setting := range postgresSettings {
		command = append(command, "-c", setting)
	}
	// An interrupt ends it at once and in order; SIGTERM would wait for its clients.
	if p.server, err = launch(ctx, &program{name: "postgres", log: p.dir + ".log", command: command, as: as, signal: syscall.SIGINT}); err != nil {
		return nil, err
	}
	if err := p.setUp(ctx); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// postgresUser is who the server runs as, and gives that user its directory.
func postgresUser(base, dir string) (*syscall.SysProcAttr, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, err
	}
	as := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	return as, errors.Join(os.Chmod(base, 0o755), os.Chown(dir, uid, gid))
}

func (p *postgres) setUp(ctx context.Context) (err error) {
	if err := p.server.within(ctx, startTimeout, func() error {
		_, err := p.query(ctx, "SELECT 1")
		return err
	}); err != nil {
		return err
	}
	for statement := range strings.SplitSeq(fmt.Sprintf(postgresTables, p.cfg.accounts-1, peerStart), ";") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := p.query(ctx, statement); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(p.dir, "debit.sql"), []byte(postgresScript), 0o644); err != nil {
		return err
	}
	p.version, err = firstLine(ctx, filepath.Join(p.bin, "postgres"), "--version")
	return err
}

// query returns what psql prints, columns separated by |.
func (p *postgres) query(ctx context.Context, sql string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1",
		"-h", "127.0.0.1", "-p", p.port, "-U", "bench", "-d", "postgres", "-c", sql)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("psql: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

// run makes one run of pgbench, which logs every twentieth latency.
func (p *postgres) run(ctx context.Context) error {
	p.rounds++
	prefix := filepath.Join(p.dir, fmt.Sprintf("latency-%d", p.rounds))
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, "pgbench"), "-n", "-M", "prepared", "-c", strconv.Itoa(peerClients), "-j", "2",
		"-T", strconv.Itoa(int(p.cfg.measure.Seconds())), "-f", filepath.Join(p.dir, "debit.sql"),
		"-D", fmt.Sprintf("n=%d", int64(p.rounds)*1_000_000_000), "-D", fmt.Sprintf("accounts=%d", p.cfg.accounts),
		"-l", "--sampling-rate=0.05", "--log-prefix="+prefix,
		"-h", "127.0.0.1", "-p", p.port, "-U", "bench", "postgres")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("pgbench: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	processed, rate, err := readPgbench(string(out))
	if err != nil {
		return err
	}
	p.processed += processed
	o := load.NewOutcome(0)
	logs, err := filepath.Glob(prefix + "*")
	if err != nil {
		return err
	}
	for _, name := range logs {
		if err := readLatencies(name, o); err != nil {
			return err
		}
	}
	o.Replies = int64(rate * p.cfg.measure.Seconds())
	p.row.Add(o, p.cfg.measure)
	return nil
}

var (
	pgbenchProcessed = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)`)
	pgbenchFailed    = regexp.MustCompile(`(?m)^number of failed transactions: (\d+)`)
	pgbenchRate      = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
)

// readPgbench reads pgbench's report. A failed transaction is an error.
func readPgbench(out string) (processed int64, rate float64, err error) {
	total, failed, tps := pgbenchProcessed.FindStringSubmatch(out), pgbenchFailed.FindStringSubmatch(out), pgbenchRate.FindStringSubmatch(out)
	if total == nil || failed == nil || tps == nil || failed[1] != "0" {
		return 0, 0, fmt.Errorf("pgbench reported: %s", out)
	}
	if processed, err = strconv.ParseInt(total[1], 10, 64); err != nil {
		return 0, 0, err
	}
	rate, err = strconv.ParseFloat(tps[1], 64)
	return processed, rate, err
}

// readLatencies reads a log of pgbench's, whose third column is microseconds.
func readLatencies(name string, o *load.Outcome) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		columns := strings.Fields(lines.Text())
		if len(columns) < 3 {
			return fmt.Errorf("%s: %q is no line of a latency", name, lines.Text())
		}
		micros, err := strconv.ParseInt(columns[2], 10, 64)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		o.Measured(1, time.Duration(micros)*time.Microsecond)
	}
	return lines.Err()
}

// reconcile compares every balance with the account's commands, and their number with
// what pgbench counted.
func (p *postgres) reconcile(ctx context.Context) (int64, error) {
	out, err := p.query(ctx, fmt.Sprintf(postgresWrong, peerStart))
	if err != nil {
		return 0, err
	}
	if want := fmt.Sprintf("0|%d", p.processed); out != want {
		return 0, fmt.Errorf("balances in PostgreSQL do not agree: accounts that are wrong and commands are %s, want %s", out, want)
	}
	return p.processed, nil
}

func (p *postgres) stop() error { return p.server.stop() }
