package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nkeys"
)

// samplePosition is as long as positions come to be in a run.
const samplePosition = "0:100000.500"

// echoServer is a nats-server in this process with one micro endpoint. It has what
// keyledger's has, but for the work: the same options, users that are checked and may
// not publish everything, an in-process connection.
type echoServer struct {
	server *natsserver.Server
	conn   *nats.Conn
	seed   string // file with the seed of a user's nkey
}

// newEcho starts an echo that answers commands by reply.
func newEcho(dir string, reply func(conn *nats.Conn, m micro.Request)) (*echoServer, error) {
	return startServer(dir, func(conn *nats.Conn) error { return answerCommands(conn, reply) })
}

// startServer starts a nats-server on which serve answers, on keyledger's own connection.
func startServer(dir string, serve func(conn *nats.Conn) error) (*echoServer, error) {
	e := &echoServer{seed: filepath.Join(dir, "operator.nk")}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	own, ownPublic, err := newUser()
	if err != nil {
		return nil, err
	}
	user, public, err := newUser()
	if err != nil {
		return nil, err
	}
	seed, err := user.Seed()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(e.seed, seed, 0o600); err != nil {
		return nil, err
	}
	e.server, err = natsserver.NewServer(&natsserver.Options{
		ServerName: "echo", Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, MaxPayload: 1 << 20, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: filepath.Join(dir, "nats"), SyncAlways: true, DisableJetStreamBanner: true,
		Nkeys: []*natsserver.NkeyUser{{Nkey: ownPublic}, {Nkey: public, Permissions: &natsserver.Permissions{
			Publish:   &natsserver.SubjectPermission{Allow: []string{"keyledger.cmd.>", "keyledger.query.>", "keyledger.authorize", "$SRV.>"}},
			Subscribe: &natsserver.SubjectPermission{Allow: []string{"_INBOX.>", "keyledger.events.>"}},
		}}},
	})
	if err != nil {
		return nil, err
	}
	e.server.Start()
	if !e.server.ReadyForConnections(startTimeout) {
		e.close()
		return nil, errors.New("the echo's nats-server does not start")
	}
	e.conn, err = nats.Connect("", nats.InProcessServer(e.server), nats.Nkey(ownPublic, own.Sign))
	if err == nil {
		err = serve(e.conn)
	}
	if err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func newUser() (nkeys.KeyPair, string, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, "", err
	}
	public, err := pair.PublicKey()
	return pair, public, err
}

func answerCommands(conn *nats.Conn, reply func(conn *nats.Conn, m micro.Request)) error {
	service, err := micro.AddService(conn, micro.Config{Name: "echo", Version: "1.0.0"})
	if err != nil {
		return err
	}
	err = service.AddEndpoint("command", micro.HandlerFunc(func(m micro.Request) { reply(conn, m) }),
		micro.WithEndpointSubject("keyledger.cmd.>"), micro.WithEndpointPendingLimits(-1, 256<<20))
	if err != nil {
		return err
	}
	return conn.Flush()
}

func (e *echoServer) close() {
	if e.conn != nil {
		e.conn.Close()
	}
	e.server.Shutdown()
	e.server.WaitForShutdown()
}

// echo answers at once, with n bytes and the header a debit's answer has.
func echo(n int) func(*nats.Conn, micro.Request) {
	body := bytes.Repeat([]byte("x"), n)
	return func(conn *nats.Conn, m micro.Request) {
		// An error means that the connection is gone; the load counts what is missing.
		_ = conn.PublishMsg(&nats.Msg{Subject: m.Reply(), Header: nats.Header{"Keyledger-Position": {samplePosition}}, Data: body})
	}
}

// serveEcho runs the echo until ctx ends: "bench echo".
func serveEcho(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench echo", flag.ContinueOnError)
	dir := flags.String("dir", "", "`DIR` for its files")
	n := flags.Int("reply-bytes", 0, "bytes in each answer's body")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" || *n < 0 || *n > 1<<19 {
		return fmt.Errorf("-dir must be given and -reply-bytes from 0 to %d", 1<<19)
	}
	e, err := newEcho(*dir, echo(*n))
	if err != nil {
		return err
	}
	defer e.close()
	fmt.Printf("echo ready %s\n", e.server.ClientURL())
	<-ctx.Done()
	return nil
}
