package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// refused asserts that the server does not start, and returns why.
func refused(t *testing.T, set func(*natsOptions)) error {
	t.Helper()
	r := &rig{t: t, log: &logLines{}}
	r.operator, r.public = newUser(t)
	opts := r.options()
	set(&opts)
	e, err := startNATS(opts)
	if err == nil {
		e.Close()
		t.Error("started, and should not have")
	}
	return err
}

func TestListen(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "localhost:0", "[::1]:0", "127.0.0.1:-1"} {
		r := newRig(t, func(o *natsOptions) { o.Listen = listen })
		url := r.nats.ClientURL()
		if strings.HasSuffix(url, ":0") || strings.HasSuffix(url, ":4222") {
			t.Errorf("%s: %s is not the real URL", listen, url)
		}
		if err := r.client().Flush(); err != nil {
			t.Errorf("%s: %v", listen, err)
		}
	}
}

func TestListenBeyondLoopback(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "ledger.example:0", "127.0.0.1.example:0"} {
		err := refused(t, func(o *natsOptions) { o.Listen = listen })
		wantError(t, err, "other machines", "not encrypted")
	}
	for _, listen := range []string{"0.0.0.0:0", ":0", "[::]:0"} {
		r := newRig(t, func(o *natsOptions) { o.Listen, o.Insecure = listen, true })
		if url := r.nats.ClientURL(); !strings.HasPrefix(url, "nats://127.0.0.1:") {
			t.Errorf("%s: %s is no address to connect to", listen, url)
		}
		if err := r.client().Flush(); err != nil { // by way of ClientURL
			t.Errorf("%s: %v", listen, err)
		}
	}
	// Whatever a name meant, the listener itself is looked at.
	for addr, ok := range map[string]bool{"127.0.0.1": true, "::1": true, "192.0.2.1": false, "::": false} {
		if err := checkListener(&net.TCPAddr{IP: net.ParseIP(addr)}, false); (err == nil) != ok {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestListenAddressRefusals(t *testing.T) {
	for _, listen := range []string{"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-2"} {
		err := refused(t, func(o *natsOptions) { o.Listen = listen })
		wantError(t, err, fmt.Sprintf("%q", listen))
	}
	err := refused(t, func(o *natsOptions) { o.Operator = "someone" })
	wantError(t, err, "someone", "public user nkey")
}

func TestPortTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	err = refused(t, func(o *natsOptions) { o.Listen = taken.Addr().String() })
	wantError(t, err, taken.Addr().String(), "another program")
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("%v is not EADDRINUSE", err)
	}
}

func TestStoreThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantError(t, refused(t, func(o *natsOptions) { o.StoreDir = file }), file)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantError(t, refused(t, func(o *natsOptions) { o.StoreDir = dir }), "not a directory")
}

func TestSyncAlwaysUnlessAllowed(t *testing.T) {
	always, lazy := newRig(t, nil), newRig(t, func(o *natsOptions) { o.LazySync = true })
	if !always.nats.server.JetStreamConfig().SyncAlways {
		t.Error("the server syncs lazily")
	}
	if lazy.nats.server.JetStreamConfig().SyncAlways {
		t.Error("the option does not switch it off")
	}
	// The running server is asked, whatever it was told.
	wantError(t, checkSync(lazy.nats.server, false), "power cut", "--unsafe-lazy-sync")
	if err := checkSync(lazy.nats.server, true); err != nil {
		t.Error(err)
	}
	always.nats.Close()
	wantError(t, checkSync(always.nats.server, false), "not running")
}

func TestServerSettings(t *testing.T) {
	r := newRig(t, nil)
	if got := r.client().MaxPayload(); got != 1<<20 {
		t.Errorf("maximum payload %d, want 1 MiB", got)
	}
	config := r.nats.server.JetStreamConfig()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(config.StoreDir, &fs); err != nil {
		t.Fatal(err)
	}
	size := int64(fs.Blocks) * int64(fs.Bsize)
	if config.MaxStore > size*8/10 || config.MaxStore < size*8/10-1<<20 {
		t.Errorf("streams may hold %d bytes of a volume of %d, want 80 %%", config.MaxStore, size)
	}
	if config.MaxMemory != 64<<20 {
		t.Errorf("memory streams may hold %d bytes, want 64 MiB", config.MaxMemory)
	}
	if r.nats.server.MonitorAddr() != nil {
		t.Error("a monitoring port is open")
	}
	if got := r.client().ConnectedServerName(); got != "keyledger" {
		t.Errorf("server name %q", got)
	}
}

// What is acknowledged is there after a restart, under the same names on disk.
func TestRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), dirNATS)
	use := func(o *natsOptions) { o.StoreDir = dir }
	first := newRig(t, use)
	first.ledgerStreams()
	url := first.nats.ClientURL()
	first.nats.Close()
	if nc, err := nats.Connect(url, nats.Nkey(first.public, first.operator.Sign)); err == nil {
		nc.Close()
		t.Error("the port is open after Close")
	}
	if _, err := os.Stat(filepath.Join(dir, "jetstream", natsAccountStore, "streams", "KEYLEDGER_LOG_0")); err != nil {
		t.Error(err)
	}
	second := newRig(t, use)
	_, js := second.store()
	s, err := js.Stream(t.Context(), "KEYLEDGER_LOG_0")
	if err != nil {
		t.Fatal(err)
	}
	if m, err := s.GetMsg(t.Context(), 1); err != nil || string(m.Data) != "first" {
		t.Errorf("got %v, %v", m, err)
	}
}

// JetStream passes over a stream it cannot read, and the next start would begin an empty
// one in its place.
func TestUnreadableStreamStopsTheStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), dirNATS)
	use := func(o *natsOptions) { o.StoreDir = dir }
	first := newRig(t, use)
	first.ledgerStreams()
	first.nats.Close()
	streams := filepath.Join(dir, "jetstream", natsAccountStore, "streams")
	meta := filepath.Join(streams, "KEYLEDGER_LOG_0", "meta.inf")
	good, err := os.ReadFile(meta)
	if err != nil {
		t.Fatal(err)
	}
	put(t, meta, string(good)+" ", 0o600)
	wantError(t, refused(t, use), "KEYLEDGER_LOG_0", "could not be recovered")
	put(t, meta, string(good), 0o600)
	// What a stop in the middle of a stream's creation leaves holds nothing, and is not
	// in the way of the next.
	half := filepath.Join(streams, "HALF")
	if err := os.MkdirAll(filepath.Join(half, "msgs"), 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(half, "meta.inf"), "{", 0o600)
	put(t, filepath.Join(half, "msgs", "1.blk"), "", 0o600)
	_, js := newRig(t, use).store()
	newStream(t, js, jetstream.StreamConfig{Name: "HALF", Subjects: []string{"half"}})
	if _, err := js.Publish(t.Context(), "half", nil); err != nil {
		t.Error(err)
	}
}

// JetStream is the store's: on the clients' side there are no streams, not even of the
// same names.
func TestClientsSideHasNoStreams(t *testing.T) {
	r := newRig(t, nil)
	r.ledgerStreams()
	account, err := r.nats.server.LookupAccount(natsAccountClients)
	if err != nil {
		t.Fatal(err)
	}
	if account.JetStreamEnabled() {
		t.Error("the clients' account has JetStream")
	}
	service := r.service()
	_, js := withJetStream(t, service)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "X", Subjects: []string{"x"}, MaxBytes: 1 << 20})
	if !errors.Is(err, nats.ErrNoResponders) && !errors.Is(err, jetstream.ErrJetStreamNotEnabled) {
		t.Errorf("made a stream from the clients' side: %v", err)
	}
}

func TestNATSLogsToSlog(t *testing.T) {
	r := newRig(t, nil)
	logger := &natsLogger{log: r.nats.log}
	logger.Errorf("bad %d", 1)
	logger.Warnf("odd %d", 2)
	logger.Noticef("news %d", 3)
	logger.Debugf("payload")
	logger.Tracef("payload")
	logger.begun()
	logger.Fatalf("worse %d", 4)
	text := r.log.String()
	for _, want := range []string{
		`level=ERROR msg="bad 1" from=nats-server`, `level=WARN msg="odd 2" from=nats-server`,
		`level=DEBUG msg="news 3" from=nats-server`, `level=ERROR msg="worse 4" from=nats-server`,
		`level=DEBUG msg="Server is ready" from=nats-server`, // of the running server
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %s", want)
		}
	}
	if strings.Contains(text, "payload") || strings.Contains(text, "level=WARN msg=\"Plaintext") {
		t.Errorf("the log has what it must not have:\n%s", text)
	}
	// A start says nothing that an operator need worry about.
	if before, _, _ := strings.Cut(text, `msg="bad 1"`); strings.Count(before, "level=WARN")+strings.Count(before, "level=INFO") > 0 {
		t.Errorf("a start warns:\n%s", before)
	}
}
