package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger/client"
)

// workEvery is how often the server is asked how work on the projections gets on.
const workEvery = 200 * time.Millisecond

func projectionsCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "projections",
		Short: "Watch, rebuild and verify what is derived from the log",
		Long: `Watch, rebuild and verify what is derived from the log: the views that answer queries,
an embedder's own projections, the archive, the feed and the key-value buckets.`,
		Example: "  keyledger projections list\n  keyledger projections rebuild keys\n  keyledger projections verify",
	}, projectionsList(a), projectionsRebuild(a), projectionsVerify(a))
}

func projectionsList(a *app) *cobra.Command {
	return a.verb(&cobra.Command{
		Use:     "list",
		Short:   "List the projections: how far each is, and what work is done on them",
		Example: "  keyledger projections list\n  keyledger projections list --json",
		Args:    arguments(),
	}, func(cmd *cobra.Command, _ []string) error {
		return a.with(cmd, func(ctx context.Context, c *client.Client) error {
			reply, err := c.Query(ctx, "_", "projection.list", nil)
			if err != nil {
				return err
			}
			var out projectionList
			return a.show(reply, &out, out.rows)
		})
	})
}

func projectionsRebuild(a *app) *cobra.Command {
	return a.verb(&cobra.Command{
		Use:   "rebuild NAME…",
		Short: "Make projections again from the log's beginning",
		Long: `Make projections again from the log's beginning, beside the ones there are, which answer
until the new ones take their place. It is for one that stopped, or that "verify" found to
be wrong. The feed, the buckets (kv) and the archive are made again by other means, which
it names when it is asked for them. It takes the memory of both meanwhile, and half a core while commands are
committed. The server goes on with it when this command is interrupted.`,
		Example: "  keyledger projections rebuild keys\n  keyledger projections rebuild keys balances --json",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("NAME is missing: \"keyledger projections list\" shows them")
			}
			return nil
		},
		ValidArgsFunction: a.projectionNames,
	}, func(cmd *cobra.Command, args []string) error {
		w, err := a.work(cmd, "rebuild", map[string]any{"names": args})
		if err != nil {
			return err
		}
		if a.json {
			return printJSON(a.out, w)
		}
		t := newTable(a.out)
		t.row("made again", strings.Join(w.Projections, ", "))
		t.row("position", w.Position)
		return t.w.Flush()
	})
}

func projectionsVerify(a *app) *cobra.Command {
	return a.verb(&cobra.Command{
		Use:   "verify",
		Short: "Make every projection again from the log and compare it with the live one",
		Long: `Make every projection again from the log's beginning and compare it with the live one,
account by account, then the archive, file by file, the feed and the key-value buckets. It
ends with exit code 1 and names the projection, the account and the position where anything
differs; "rebuild" makes a projection right, and the archive is made right by itself. It
takes the memory of all views once more, the disk of the archive's largest file, and half a
core while commands are committed. The server goes on with it when this command is
interrupted.`,
		Example: "  keyledger projections verify\n  keyledger projections verify --json",
		Args:    arguments(),
	}, func(cmd *cobra.Command, _ []string) error {
		w, err := a.work(cmd, "verify", nil)
		if err != nil {
			return err
		}
		wrong := slices.ContainsFunc(w.Findings, func(f finding) bool { return !f.Equal })
		if a.json {
			err = printJSON(a.out, w)
		} else {
			t := newTable(a.out)
			w.rows(t)
			err = t.w.Flush()
		}
		if err == nil && wrong {
			return errTold
		}
		return err
	})
}

// projectionNames completes names of projections.
func (a *app) projectionNames(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var out projectionList
	err := a.with(cmd, func(ctx context.Context, c *client.Client) error {
		reply, err := c.Query(ctx, "_", "projection.list", nil)
		if err != nil {
			return err
		}
		return reply.Decode(&out)
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, p := range out.Projections {
		if p.Version > 0 && !slices.Contains(args, p.Name) { // the feed, the buckets and the archive have none
			names = append(names, p.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// work begins work on the projections and waits for its end. Each answer may take --timeout.
func (a *app) work(cmd *cobra.Command, kind string, body any) (*projectionWork, error) {
	conn, err := a.connect(cmd)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var began struct {
		Work *projectionWork `json:"work"`
	}
	if err := a.ask(cmd.Context(), conn, "projection."+kind, body, &began); err != nil {
		return nil, err
	}
	p := a.newProgress()
	defer p.clear()
	tick := time.NewTicker(workEvery)
	defer tick.Stop()
	for step := ""; ; {
		var now projectionList
		if err := a.ask(cmd.Context(), conn, "projection.list", nil, &now); err != nil {
			return nil, goesOn(cmd.Context(), err)
		}
		w := now.find(began.Work.ID)
		switch {
		case w == nil:
			return nil, fmt.Errorf("the server knows nothing of this work any more: it was started again, or has done much else since; give the command again")
		case w.State == "failed":
			return nil, fmt.Errorf("%s failed at %s: %s", kind, w.Position, w.Failure)
		case w.State == "done":
			return w, nil
		case w.Step != step:
			step = w.Step
			p.begin(stepText(step))
		}
		p.at(int(w.Done), int(w.Total))
		select {
		case <-tick.C:
		case <-cmd.Context().Done():
			return nil, goesOn(cmd.Context(), nil)
		}
	}
}

// goesOn is err, or where the command was interrupted that the server goes on.
func goesOn(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("%w; the server goes on: \"keyledger projections list\" shows how far it is", errInterrupted)
}

// stepText is what a step does, for people.
func stepText(step string) string {
	switch step {
	case "log":
		return "folding events of the log"
	case "accounts":
		return "comparing accounts"
	}
	return "comparing " + step
}

// ask asks one query of the ledger itself.
func (a *app) ask(ctx context.Context, conn *nats.Conn, verb string, body, v any) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	reply, err := client.New(conn).Query(ctx, "_", verb, body)
	if err != nil {
		return err
	}
	return reply.Decode(v)
}

// projectionList is the reply of projection.list.
type projectionList struct {
	Projections []struct {
		Name      string `json:"name"`
		Version   uint64 `json:"version"`
		Position  string `json:"position"`
		LagEvents int64  `json:"lag_events"`
		LagMS     int64  `json:"lag_ms"`
		Failure   string `json:"failure"`
		Rebuild   string `json:"rebuild"`
	} `json:"projections"`
	Work  *projectionWork  `json:"work"`
	Works []projectionWork `json:"works"` // the newest first
}

// find returns a work, nil where the server knows it no more.
func (out *projectionList) find(id string) *projectionWork {
	i := slices.IndexFunc(out.Works, func(w projectionWork) bool { return w.ID == id })
	if i < 0 {
		return nil
	}
	return &out.Works[i]
}

// projectionWork is work on the whole log.
type projectionWork struct {
	ID          string      `json:"id"`
	Number      uint64      `json:"number"`
	Kind        string      `json:"kind"`
	Projections []string    `json:"projections"`
	State       string      `json:"state"`
	Step        string      `json:"step"`
	Done        uint64      `json:"done"`
	Total       uint64      `json:"total"`
	Position    string      `json:"position"`
	End         string      `json:"end"`
	StartedAt   events.Time `json:"started_at"`
	EndedAt     events.Time `json:"ended_at"`
	Failure     string      `json:"failure,omitzero"`
	Findings    []finding   `json:"findings,omitzero"`
}

// finding is what a verification says of one projection, of the feed or of a bucket.
type finding struct {
	Name     string `json:"name"`
	Equal    bool   `json:"equal"`
	Position string `json:"position"`
	Account  string `json:"account,omitzero"`
	Reason   string `json:"reason,omitzero"`
	Accounts uint64 `json:"accounts,omitzero"`
	Live     string `json:"live_digest,omitzero"`
	Fresh    string `json:"fresh_digest,omitzero"`
}

func (out *projectionList) rows(t *table) {
	t.row("NAME", "VERSION", "POSITION", "BEHIND", "FOR", "STATE")
	for _, p := range out.Projections {
		state := "works"
		switch {
		case p.Rebuild != "":
			state = "is made again, " + p.Rebuild
		case p.Failure != "":
			state = p.Failure
		}
		version := "-"
		if p.Version > 0 {
			version = fmt.Sprint(p.Version)
		}
		t.row(p.Name, version, p.Position, grouped(p.LagEvents), time.Duration(p.LagMS)*time.Millisecond, state)
	}
	if w := out.Work; w != nil {
		text := fmt.Sprintf("%s of %s: %s", w.Kind, strings.Join(w.Projections, ", "), w.State)
		switch w.State {
		case "running":
			text += fmt.Sprintf(", at %s of %s", w.Position, w.End)
		case "failed":
			text += ": " + w.Failure
		}
		t.notes = append(t.notes, text)
	}
}

func (w *projectionWork) rows(t *table) {
	t.row("NAME", "EQUAL", "POSITION", "ACCOUNTS", "DIGEST", "MADE FROM THE LOG")
	for _, f := range w.Findings {
		equal := "yes"
		if !f.Equal {
			equal = "NO"
			t.notes = append(t.notes, fmt.Sprintf("%s at %s: %s", f.Name, f.Position, f.Reason))
		}
		t.row(f.Name, equal, f.Position, grouped(int64(f.Accounts)), short(f.Live), short(f.Fresh))
	}
}

// short is the beginning of a digest.
func short(digest string) string {
	const shown = 16
	return orDash(digest[:min(len(digest), shown)])
}
