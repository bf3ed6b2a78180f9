package main

import (
	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
)

// environmentFlag adds --environment. The default is the harmless one.
func environmentFlag(c *cobra.Command, p *string) {
	c.Flags().StringVar(p, "environment", events.Test, "`NAME`: test or live")
}

// assetFlag adds --asset.
func assetFlag(c *cobra.Command, p *string) {
	c.Flags().StringVar(p, "asset", "credits", "`ASSET` of the balance")
}

// pageFlags are those of every list.
type pageFlags struct {
	limit  int
	cursor string
}

func (p *pageFlags) add(c *cobra.Command) {
	c.Flags().IntVar(&p.limit, "limit", 50, "how many to list, at most 500")
	c.Flags().StringVar(&p.cursor, "cursor", "", "go on from here: the `CURSOR` of the list before")
}

// body is a list query's body: the filters that are set, and the page.
func (p *pageFlags) body(filters map[string]string) map[string]any {
	body := map[string]any{"limit": p.limit}
	if p.cursor != "" {
		body["cursor"] = p.cursor
	}
	for name, value := range filters {
		if value != "" {
			body[name] = value
		}
	}
	return body
}

// require marks flags that must be given.
func require(c *cobra.Command, names ...string) {
	for _, name := range names {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // no such flag
		}
	}
}
