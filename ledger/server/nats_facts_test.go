package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events/store"
)

// What keyledger relies on in NATS, held against the real server. A test that fails
// here after an upgrade says which of keyledger's promises has lost its ground.
// Sources are of nats-server 2.15.2.

// wantAPIError asserts JetStream's own error code, which is what keyledger branches on.
func wantAPIError(t *testing.T, err error, code jetstream.ErrorCode) {
	t.Helper()
	var api *jetstream.APIError
	if !errors.As(err, &api) || api.ErrorCode != code {
		t.Errorf("got %v, want JetStream error %d", err, code)
	}
}

func newStream(t *testing.T, js jetstream.JetStream, c jetstream.StreamConfig) jetstream.Stream {
	t.Helper()
	if c.MaxBytes == 0 {
		c.MaxBytes = 8 << 20
	}
	s, err := js.CreateStream(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func lastSeq(t *testing.T, s jetstream.Stream) uint64 {
	t.Helper()
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State.LastSeq
}

// The fence. Header Nats-Expected-Last-Sequence (docs.nats.io, JetStream headers;
// stream.go, processJetStreamMsgWithBatch): another last sequence is error 10071
// (errors.json, JSStreamWrongLastSequenceErrF), and nothing is stored.
func TestNATSFenceStoresNothingOnMismatch(t *testing.T) {
	_, js := newRig(t, nil).store()
	s := newStream(t, js, jetstream.StreamConfig{Name: "LOG", Subjects: []string{"log"}})
	for _, expect := range []uint64{0, 1} {
		if _, err := js.Publish(t.Context(), "log", []byte("x"), jetstream.WithExpectLastSequence(expect)); err != nil {
			t.Fatalf("expecting %d: %v", expect, err)
		}
	}
	for _, expect := range []uint64{0, 1, 3, 1 << 40} {
		_, err := js.Publish(t.Context(), "log", []byte("x"), jetstream.WithExpectLastSequence(expect))
		wantAPIError(t, err, 10071)
	}
	if got := lastSeq(t, s); got != 2 {
		t.Errorf("last sequence %d, want 2", got)
	}
}

// The log is append-only even to its owner: DenyDelete and DenyPurge (stream.go,
// StreamConfig) refuse, and cannot be taken back by an update (configUpdateCheckLocked).
// Deleting the whole stream stays possible, to keyledger alone.
func TestNATSDenyDeleteAndPurgeAreFinal(t *testing.T) {
	nc, js := newRig(t, nil).store()
	config := jetstream.StreamConfig{Name: "LOG", Subjects: []string{"log"}, DenyDelete: true, DenyPurge: true, MaxBytes: 8 << 20}
	s := newStream(t, js, config)
	if _, err := js.Publish(t.Context(), "log", []byte("x")); err != nil {
		t.Fatal(err)
	}
	var api *jetstream.APIError
	if err := s.DeleteMsg(t.Context(), 1); err == nil {
		t.Error("a message was deleted")
	}
	if err := s.SecureDeleteMsg(t.Context(), 1); err == nil {
		t.Error("a message was overwritten")
	}
	if err := s.Purge(t.Context()); !errors.As(err, &api) {
		t.Errorf("purge: got %v, want a refusal", err)
	}
	for _, change := range []func(*jetstream.StreamConfig){
		func(c *jetstream.StreamConfig) { c.DenyDelete = false },
		func(c *jetstream.StreamConfig) { c.DenyPurge = false },
	} {
		c := config
		change(&c)
		_, err := js.UpdateStream(t.Context(), c)
		wantAPIError(t, err, 10052) // JSStreamInvalidConfigF
	}
	// A roll-up would be a purge by another name: it cannot be switched on beside DenyPurge.
	c := config
	c.AllowRollup = true
	_, err := js.UpdateStream(t.Context(), c)
	wantAPIError(t, err, 10052)
	ask(t, nc, "$JS.API.STREAM.PURGE.LOG", "") // and not by the bare API either
	if got := lastSeq(t, s); got != 1 {
		t.Errorf("last sequence %d, want 1", got)
	}
	if _, err := s.GetMsg(t.Context(), 1); err != nil {
		t.Errorf("message 1: %v", err)
	}
}

// Derived streams do not pay for an fsync a message: persist mode "async" (stream.go,
// addStreamWithAssignmentAndMode, which switches SyncAlways off for the stream) can be
// had by plain configuration on a server that syncs always, and never changes
// (configUpdateCheckLocked).
func TestNATSPersistModeIsPerStreamAndFinal(t *testing.T) {
	r := newRig(t, nil)
	_, js := r.store()
	s := newStream(t, js, jetstream.StreamConfig{Name: "FEED", Subjects: []string{"feed"}, PersistMode: jetstream.AsyncPersistMode})
	newStream(t, js, jetstream.StreamConfig{Name: "LOG", Subjects: []string{"log"}})
	if err := checkSync(r.nats.server, false); err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.Config.PersistMode != jetstream.AsyncPersistMode {
		t.Errorf("persist mode %v, want async", info.Config.PersistMode)
	}
	for name, mode := range map[string]jetstream.PersistModeType{"FEED": jetstream.DefaultPersistMode, "LOG": jetstream.AsyncPersistMode} {
		stream, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		c := stream.CachedInfo().Config
		c.PersistMode = mode
		_, err = js.UpdateStream(t.Context(), c)
		wantAPIError(t, err, 10052)
	}
}

// The server says how it syncs (jetstream.go, JetStreamConfig), and left to itself it
// syncs every 2 minutes (filestore.go, defaultSyncInterval): answers before that can
// be lost in a power cut.
func TestNATSSyncIsLazyUnlessToldOtherwise(t *testing.T) {
	config := newRig(t, nil).nats.server.JetStreamConfig()
	if !config.SyncAlways {
		t.Error("SyncAlways is off on our server")
	}
	plain, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	plain.Start()
	defer plain.WaitForShutdown()
	defer plain.Shutdown()
	config = plain.JetStreamConfig()
	if config.SyncAlways || config.SyncInterval != 2*time.Minute {
		t.Errorf("a plain server has SyncAlways %v, SyncInterval %v; want false, 2m", config.SyncAlways, config.SyncInterval)
	}
	if err := checkSync(plain, false); err == nil {
		t.Error("checkSync accepts it")
	}
}

// A full log refuses and keeps what it has: DiscardNew with MaxBytes is error 10077
// with the text "maximum bytes exceeded" (stream.go, processJetStreamMsgWithBatch; store.go,
// ErrMaxBytes). 10077 alone says only that the store failed, so the limit is known
// from the stream's state, before an append.
func TestNATSFullStreamRefuses(t *testing.T) {
	_, js := newRig(t, nil).store()
	s := newStream(t, js, jetstream.StreamConfig{Name: "LOG", Subjects: []string{"log"}, Discard: jetstream.DiscardNew, MaxBytes: 4096})
	body := bytes.Repeat([]byte("x"), 1000)
	var err error
	stored := uint64(0)
	for ; stored < 10; stored++ {
		if _, err = js.Publish(t.Context(), "log", body); err != nil {
			break
		}
	}
	if stored != 3 {
		t.Errorf("stored %d messages of 1000 bytes in 4096, want 3", stored)
	}
	wantAPIError(t, err, 10077)
	var api *jetstream.APIError
	if errors.As(err, &api) && api.Description != "maximum bytes exceeded" {
		t.Errorf("description %q", api.Description)
	}
	if got := lastSeq(t, s); got != stored {
		t.Errorf("last sequence %d, want %d", got, stored)
	}
	if m, err := s.GetMsg(t.Context(), 1); err != nil || !bytes.Equal(m.Data, body) {
		t.Errorf("message 1: %v, %v", m, err)
	}
	// The fence is checked first: a fenced writer learns that, full or not.
	_, err = js.Publish(t.Context(), "log", body, jetstream.WithExpectLastSequence(1))
	wantAPIError(t, err, 10071)
}

// One key's history without a consumer: next_by_subj (ADR-31; jetstream_api.go,
// JSApiMsgGetRequest) is the next message that matches a filter, at or after a sequence.
func TestNATSNextBySubject(t *testing.T) {
	_, js := newRig(t, nil).store()
	for _, direct := range []bool{true, false} {
		name := map[bool]string{true: "DIRECT", false: "PLAIN"}[direct]
		s := newStream(t, js, jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}, AllowDirect: direct})
		for _, tail := range []string{"a.1", "b.1", "a.2", "b.2", "a.3"} {
			if _, err := js.Publish(t.Context(), name+"."+tail, []byte(tail)); err != nil {
				t.Fatal(err)
			}
		}
		for _, tc := range []struct {
			from   uint64
			filter string
			want   uint64 // 0: none
		}{{1, "a.*", 1}, {2, "a.*", 3}, {3, "a.*", 3}, {4, "a.*", 5}, {6, "a.*", 0}, {1, "b.2", 4}, {5, "b.>", 0}, {0, "b.>", 2}} {
			m, err := s.GetMsg(t.Context(), tc.from, jetstream.WithGetMsgSubject(name+"."+tc.filter))
			switch {
			case tc.want == 0 && !errors.Is(err, jetstream.ErrMsgNotFound):
				t.Errorf("%s from %d, %s: got %v, want no message", name, tc.from, tc.filter, err)
			case tc.want != 0 && err != nil:
				t.Errorf("%s from %d, %s: %v", name, tc.from, tc.filter, err)
			case tc.want != 0 && m.Sequence != tc.want:
				t.Errorf("%s from %d, %s: got %d, want %d", name, tc.from, tc.filter, m.Sequence, tc.want)
			}
		}
	}
}

// Every stream has a byte limit: without one it is error 10113 (accounts' limit
// max_bytes_required), and beyond what the volume may hold it is 10047.
func TestNATSStreamsNeedAByteLimit(t *testing.T) {
	r := newRig(t, nil)
	_, js := r.store()
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "A", Subjects: []string{"a"}})
	wantAPIError(t, err, 10113)
	limit := r.nats.server.JetStreamConfig().MaxStore
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "B", Subjects: []string{"b"}, MaxBytes: limit + 1})
	wantAPIError(t, err, 10047)
}

// Why there are two NATS accounts and a consumer guard (identities.go): within one
// account a user that may publish nothing to the log has the server do it, by a reply
// subject (client.go checks permission for the subject alone) or by a consumer's
// deliver_subject (consumer.go, checkConsumerCfg, refuses only the stream's own).
func TestNATSPublishesWhereARequestSays(t *testing.T) {
	server, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
		Users: []*natsserver.User{
			{Username: "owner", Password: "x"},
			{Username: "reader", Password: "x", Permissions: &natsserver.Permissions{
				Publish:   &natsserver.SubjectPermission{Allow: []string{"$JS.API.INFO", "$JS.API.CONSUMER.CREATE.>"}},
				Subscribe: &natsserver.SubjectPermission{Allow: []string{inboxes}},
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Start()
	defer server.WaitForShutdown()
	defer server.Shutdown()
	if err := server.GlobalAccount().EnableJetStream(nil, nil); err != nil {
		t.Fatal(err)
	}
	connect := func(user string) *nats.Conn {
		nc, err := nats.Connect(server.ClientURL(), nats.UserInfo(user, "x"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	owner, js := withJetStream(t, connect("owner"))
	newStream(t, js, jetstream.StreamConfig{Name: "LOG", Subjects: []string{store.SubjectLog(0)}})
	newStream(t, js, jetstream.StreamConfig{Name: "FEED", Subjects: []string{"feed"}})
	if _, err := js.Publish(t.Context(), "feed", []byte("an event")); err != nil {
		t.Fatal(err)
	}
	log, err := owner.SubscribeSync(store.SubjectLog(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Flush(); err != nil {
		t.Fatal(err)
	}
	reader := connect("reader")
	if err := reader.PublishRequest("$JS.API.INFO", store.SubjectLog(0), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := log.NextMsg(patience); err != nil {
		t.Errorf("NATS no longer answers where the request says: %v", err)
	}
	body, err := json.Marshal(map[string]any{"stream_name": "FEED", "config": map[string]any{"name": "x", "ack_policy": "none", "deliver_subject": store.SubjectLog(0)}})
	if err != nil {
		t.Fatal(err)
	}
	ask(t, reader, "$JS.API.CONSUMER.CREATE.FEED.x", string(body))
	m, err := log.NextMsg(patience)
	if err != nil || string(m.Data) != "an event" {
		t.Errorf("NATS no longer delivers a consumer's messages into another stream: %v, %v", m, err)
	}
}
