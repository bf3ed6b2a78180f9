package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
)

// redisScript debits only if the id is new and the balance suffices, and returns what is
// left, -1 if too little.
const redisScript = `local left = tonumber(redis.call('GET', KEYS[2]))
if left < tonumber(ARGV[1]) then return -1 end
if not redis.call('SET', KEYS[1], '1', 'NX') then return left end
return redis.call('DECRBY', KEYS[2], ARGV[1])`

// redis is a Redis of our own, with its defaults but for what startRedis says.
type redis struct {
	server  *process
	cfg     *peersConfig
	row     *peerRow
	version string
	names   []string
	clients []*redisClient
	script  string // its SHA-1
	taken   []int64
	done    int64
}

// startRedis starts it on a free port, in a directory of its own: every command is in the
// append-only file and fsynced before its answer. That file is not rewritten in a run.
func startRedis(ctx context.Context, cfg *peersConfig, programs *peerProgram, dir string) (r *redis, err error) {
	r = &redis{cfg: cfg, row: &peerRow{Name: "Redis, 64 connections, no pipelining"}, names: load.AccountNames("bench", cfg.accounts), taken: make([]int64, cfg.accounts)}
	r.row.run = r.run
	dir += "/redis"
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	if r.server, err = launch(ctx, &program{name: "redis", log: dir + ".log", command: []string{
		programs.redis, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0",
	}}); err != nil {
		return nil, err
	}
	if err := r.setUp(ctx, fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	r.version, err = firstLine(ctx, programs.redis, "--version")
	if err != nil {
		return nil, errors.Join(err, r.stop())
	}
	return r, nil
}

func (r *redis) setUp(ctx context.Context, address string) error {
	var first *redisClient
	err := r.server.within(ctx, startTimeout, func() (err error) {
		first, err = dialRedis(address)
		return err
	})
	if err != nil {
		return err
	}
	r.clients = append(r.clients, first)
	for len(r.clients) < peerClients {
		client, err := dialRedis(address)
		if err != nil {
			return err
		}
		r.clients = append(r.clients, client)
	}
	for _, name := range r.names {
		if _, err := first.do("SET", name, strconv.FormatInt(peerStart, 10)); err != nil {
			return err
		}
	}
	r.script, err = first.do("SCRIPT", "LOAD", redisScript)
	return err
}

// run makes one run: each connection has one debit in flight.
func (r *redis) run(context.Context) error {
	begin := time.Now().Add(r.cfg.warmUp)
	end := begin.Add(r.cfg.measure)
	parts := make([]*load.Outcome, len(r.clients))
	var group errgroup.Group
	for i, client := range r.clients {
		parts[i] = load.NewOutcome(len(r.names))
		group.Go(func() error { return r.debit(client, begin, end, parts[i]) })
	}
	err := group.Wait()
	sum := load.NewOutcome(len(r.names))
	for _, o := range parts {
		sum.Add(o)
	}
	for i, n := range sum.Taken {
		r.taken[i] += n
	}
	r.done += sum.Done
	if err == nil {
		r.row.Add(sum, r.cfg.measure)
	}
	return err
}

// debit debits one account after the other over one connection until the end.
func (r *redis) debit(c *redisClient, begin, end time.Time, o *load.Outcome) error {
	for sent := time.Now(); sent.Before(end); {
		account := rand.IntN(len(r.names))
		name := r.names[account]
		left, err := c.do("EVALSHA", r.script, "2", name+":"+ulid.Make().String(), name, "1")
		if err != nil {
			return err
		}
		if left == "-1" {
			return fmt.Errorf("redis: %s has too little", name)
		}
		now := time.Now()
		o.Done++
		o.Taken[account]++
		if !now.Before(begin) && now.Before(end) {
			o.Measured(1, now.Sub(sent))
		}
		sent = now
	}
	return nil
}

// reconcile compares every balance, and the number of ids, with what was acknowledged.
func (r *redis) reconcile() (int64, error) {
	for i, name := range r.names {
		got, err := r.clients[0].do("GET", name)
		if err != nil {
			return 0, err
		}
		if want := strconv.FormatInt(peerStart-r.taken[i], 10); got != want {
			return 0, fmt.Errorf("balances in Redis do not agree: %s has %s, must have %s", name, got, want)
		}
	}
	keys, err := r.clients[0].do("DBSIZE")
	if err != nil {
		return 0, err
	}
	if want := strconv.FormatInt(r.done+int64(len(r.names)), 10); keys != want {
		return 0, fmt.Errorf("there are %s keys in Redis, must be %s", keys, want)
	}
	return r.done, nil
}

func (r *redis) stop() error {
	for _, c := range r.clients {
		c.conn.Close()
	}
	return r.server.stop()
}

// redisClient speaks as much of Redis' protocol (RESP2) as is needed here.
type redisClient struct {
	conn net.Conn
	in   *bufio.Reader
	out  []byte
}

// dialRedis connects and waits until the server answers.
func dialRedis(address string) (*redisClient, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	c := &redisClient{conn: conn, in: bufio.NewReader(conn)}
	if _, err := c.do("PING"); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// do sends a command and returns its reply, which must not be an array.
func (c *redisClient) do(args ...string) (string, error) {
	c.out = fmt.Appendf(c.out[:0], "*%d\r\n", len(args))
	for _, arg := range args {
		c.out = strconv.AppendInt(append(c.out, '$'), int64(len(arg)), 10)
		c.out = append(append(append(c.out, "\r\n"...), arg...), "\r\n"...)
	}
	if _, err := c.conn.Write(c.out); err != nil {
		return "", fmt.Errorf("redis %s: %w", args[0], err)
	}
	line, err := c.in.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("redis %s: %w", args[0], err)
	}
	kind, rest := line[0], strings.TrimSuffix(line[1:], "\r\n")
	switch kind {
	case '+', ':':
		return rest, nil
	case '$':
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 {
			return "", fmt.Errorf("redis %s: nothing there", args[0])
		}
		bulk := make([]byte, n+2)
		_, err = io.ReadFull(c.in, bulk)
		return string(bulk[:n]), err
	}
	return "", fmt.Errorf("redis %s: %s", args[0], strings.TrimSpace(line))
}
