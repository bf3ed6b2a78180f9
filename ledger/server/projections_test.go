package server

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	ledgerclient "github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/projections"
)

// opened counts accounts that were opened: a projection of an embedder, version 1 or later.
type opened struct {
	version uint64
	ids     map[string]bool
}

func (o *opened) Name() string    { return "opened" }
func (o *opened) Version() uint64 { return o.version }

func (o *opened) Apply(_ *store.Commit, _ int, e *events.Event) error {
	if e.Type == "account.opened" {
		o.ids[e.Account] = true
	}
	return nil
}

func (o *opened) Save(account string, b []byte) []byte {
	if o.ids[account] {
		b = append(b, 1)
	}
	return b
}

func (o *opened) Load(account string, _ []byte) error {
	o.ids[account] = true
	return nil
}

func openedOf(version uint64, verb string) projections.Registration {
	return projections.Registration{
		New: func() projections.Projection { return &opened{version, map[string]bool{}} },
		Queries: map[string]projections.AnswerFunc{
			verb: func(p projections.Projection, _ *projections.Query) (any, *events.Error) {
				return len(p.(*opened).ids), nil
			},
		},
	}
}

// query asks a query of the ledger itself and decodes the answer.
func query(t *testing.T, c *ledgerclient.Client, verb string, body, v any) {
	t.Helper()
	reply, err := c.Query(t.Context(), "_", verb, body, ledgerclient.Strict())
	if err != nil {
		t.Fatal(err)
	}
	if err := reply.Decode(v); err != nil {
		t.Fatal(err)
	}
}

// worked waits for the end of work on the projections.
func worked(t *testing.T, c *ledgerclient.Client) *projections.Work {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		var out struct {
			Work *projections.Work `json:"work"`
		}
		query(t, c, "projection.list", nil, &out)
		if out.Work != nil && out.Work.State != "running" {
			return out.Work
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the work does not end: %+v", out.Work)
		}
	}
}

// TestProjectionsOfAnEmbedder are asked, listed, rebuilt and verified with ours; one of
// another version than was saved is made from the log while all others serve from what was
// saved.
func TestProjectionsOfAnEmbedder(t *testing.T) {
	cfg := Config{DataDir: t.TempDir(), SnapshotEvery: 1, SnapshotPause: time.Millisecond}
	for version := uint64(1); version <= 3; version++ {
		cfg.Projections = []projections.Registration{openedOf(version, "opened.count")}
		lines := &logLines{}
		cfg.Logger = slog.New(slog.NewTextHandler(lines, nil))
		s, c, stop := serveConfig(t, cfg)
		if version > 1 && !strings.Contains(lines.String(), "read saved views") {
			t.Errorf("version %d: %s", version, lines)
		}
		if err := s.parts.views.Made(t.Context(), "opened"); err != nil {
			t.Fatal(err)
		}
		for _, account := range []string{"a", "b", "c"} {
			if _, err := c.OpenAccount(t.Context(), account+string(rune('0'+version)), ledger.OpenAccount{}); err != nil {
				t.Fatal(err)
			}
		}
		var count int
		query(t, c, "opened.count", nil, &count)
		if count != 3*int(version) {
			t.Errorf("version %d counts %d accounts, want %d", version, count, 3*version)
		}
		query(t, c, "projection.rebuild", map[string]any{"names": []string{"opened", "accounts"}}, &struct{}{})
		if w := worked(t, c); w.State != "done" {
			t.Errorf("rebuild: %+v", w)
		}
		query(t, c, "projection.verify", nil, &struct{}{})
		w := worked(t, c)
		for _, f := range w.Findings {
			if !f.Equal {
				t.Errorf("version %d: %+v", version, f)
			}
		}
		if len(w.Findings) != 10 { // five views, its own, the archive, the feed and two buckets
			t.Errorf("verify: %+v", w)
		}
		checkpointed(t, s, c)
		stop()
	}
}

// checkpointed writes until the views are saved where they are.
func checkpointed(t *testing.T, s *Server, c *ledgerclient.Client) {
	t.Helper()
	from := s.tail.End().Sequence
	name := ""
	for ctx := t.Context(); ; {
		if name += "x"; len(name) > 50 {
			name = "x"
		}
		if _, err := c.UpdateAccount(ctx, "a1", ledger.UpdateAccount{Name: &name}); err != nil {
			t.Fatal(err)
		}
		if at := s.parts.views.Checkpoint(); at != nil {
			if p, err := events.ParsePosition(at.Position); err == nil && p.Sequence >= from {
				return
			}
		}
	}
}

// TestProjectionsThatCannotBe are refused at Open.
func TestProjectionsThatCannotBe(t *testing.T) {
	for verb, want := range map[string]string{
		"ledger.status":   `query verb "ledger.status" is taken`,
		"projection.list": `query verb "projection.list" is taken`,
		"delivery.list":   `query verb "delivery.list" is taken`,
		"key.get":         `query verb "key.get" is taken`,
		"get":             `query verb "get" must be <noun>.<verb>`,
	} {
		s, err := Open(Config{DataDir: t.TempDir(), Listen: "127.0.0.1:0", HTTP: "off", Projections: []projections.Registration{openedOf(1, verb)}})
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", verb, err, want)
		}
	}
}

// TestLagMetrics: how far behind each projection is, and how soon commits are visible.
func TestLagMetrics(t *testing.T) {
	s, c, stop := serveConfig(t, Config{DataDir: t.TempDir()})
	defer stop()
	if _, err := c.OpenAccount(t.Context(), "acme", ledger.OpenAccount{}); err != nil {
		t.Fatal(err)
	}
	query(t, c, "account.list", nil, &struct{}{})
	w := httptest.NewRecorder()
	s.webHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`keyledger_projection_lag_events{projection="keys"} 0`, `keyledger_projection_lag_ms{projection="keys"} 0`,
		`keyledger_projection_lag_ms{projection="feed"} `, `keyledger_projection_stopped{projection="kv"} 0`,
		`keyledger_visible_seconds_bucket{le="0.02"} `, "keyledger_visible_seconds_count ",
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %s in\n%s", want, w.Body)
		}
	}
}
