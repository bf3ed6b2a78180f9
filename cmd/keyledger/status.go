package main

import (
	"bytes"
	"context"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/ledger/client"
)

func statusCommand(a *app) *cobra.Command {
	return a.verb(&cobra.Command{
		Use:     "status",
		Short:   "Show how the ledger is",
		Example: "  keyledger status\n  keyledger status --json",
		Args:    arguments(),
	}, func(cmd *cobra.Command, _ []string) error {
		return a.with(cmd, func(ctx context.Context, c *client.Client) error {
			// Not strict: it must answer while the writer does not.
			reply, err := c.Query(ctx, "_", "ledger.status", nil)
			if err != nil {
				return err
			}
			var value jsontext.Value
			return a.show(reply, &value, func(t *table) { memberRows(t, "", value) })
		})
	})
}

// memberRows shows whatever members there are, in their order: a newer server may say
// more. An item of an array goes by its name, where it has one.
func memberRows(t *table, path string, value jsontext.Value) {
	d := jsontext.NewDecoder(bytes.NewReader(value))
	opening, err := d.ReadToken()
	if err != nil {
		return // cannot be: it was decoded once
	}
	kind := opening.Kind()
	if kind != '{' && kind != '[' {
		t.row(path, opening.String())
		return
	}
	for i := 0; d.PeekKind() != '}' && d.PeekKind() != ']'; i++ {
		label := strconv.Itoa(i)
		if kind == '{' {
			name, err := d.ReadToken()
			if err != nil {
				return
			}
			label = name.String()
		}
		member, err := d.ReadValue()
		if err != nil {
			return
		}
		if kind == '[' {
			label, member = itemName(label, member)
		}
		if path != "" {
			label = path + "." + label
		}
		memberRows(t, label, member)
	}
}

// itemName takes the member name out of an object that has one.
func itemName(index string, item jsontext.Value) (string, jsontext.Value) {
	var object struct {
		Name string         `json:"name"`
		Rest jsontext.Value `json:",embed"`
	}
	if item.Kind() != '{' || json.Unmarshal(item, &object) != nil || object.Name == "" {
		return index, item
	}
	return object.Name, object.Rest
}
