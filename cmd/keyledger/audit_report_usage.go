package main

import (
	"context"
	"errors"
	"strings"

	"github.com/keyledger/keyledger/events"
)

// coarser is a longer span than another, "" for none.
var coarser = map[string]string{"hour": "day", "day": "month"}

// spans asks for the use of both environments by span and product. Where that has more rows
// than an answer can have, spans are longer, in both, and at last products are not told apart.
func (g *gatherer) spans(ctx context.Context) error {
	group := []string{"product"}
	for {
		err := g.spansBy(ctx, group)
		switch {
		case !isCode(err, events.LimitExceeded) || group == nil:
			return err
		case coarser[g.d.By] != "":
			g.d.By = coarser[g.d.By]
		default:
			group = nil
		}
	}
}

// spansBy asks for it with the spans that the report has now.
func (g *gatherer) spansBy(ctx context.Context, group []string) error {
	wanted := g.d.By
	for i := range g.d.Environments {
		e := &g.d.Environments[i]
		e.Spans = usage{}
		if err := g.ask(ctx, g.account, "usage.get", g.usageBody(e, g.d.By, group), &e.Spans); err != nil {
			return err
		}
	}
	for i := range g.d.Environments {
		e := &g.d.Environments[i]
		if since := e.Spans.since(); since != "" {
			g.note("In " + e.Name + ", " + since + ".")
		}
		for j := range e.Spans.Rows {
			if group == nil {
				e.Spans.Rows[j].Product = "*"
			}
		}
	}
	if g.d.finest() != wanted {
		g.note("There are so many products that use is shown by " + wanted + ".")
	}
	if group == nil {
		g.note("There are more products than can be told apart.")
	}
	return nil
}

// unknown notes that requests came with secrets that no key has.
func (g *gatherer) unknown(ctx context.Context) error {
	var out accessRecords
	if err := g.ask(ctx, ledgerItself, "access.list", unknownBody(g.d.From, g.d.To), &out); err != nil {
		return err
	}
	if len(out.Records) > 0 {
		g.note(strings.ToUpper(unknownSecrets[:1]) + unknownSecrets[1:] + ".")
	}
	return nil
}

// top asks who has used an environment most: which key, or account of the whole ledger.
func (g *gatherer) top(ctx context.Context, e *environmentData) error {
	group := "key"
	if g.account == ledgerItself {
		group = "account"
	}
	err := g.ask(ctx, g.account, "usage.get", g.usageBody(e, "total", []string{group}), &e.Top)
	if isCode(err, events.LimitExceeded) {
		g.note("More " + group + "s have used " + e.Name + " than can be listed, so there is no table of the top ones.")
		return nil
	}
	return err
}

func (g *gatherer) usageBody(e *environmentData, by string, group []string) map[string]any {
	return map[string]any{"environment": e.Name, "from": g.d.From, "to": g.d.To, "by": by, "group": group}
}

// isCode says whether the ledger refused something with a code.
func isCode(err error, code events.Code) bool {
	var refused *events.Error
	return errors.As(err, &refused) && refused.Code == code
}
