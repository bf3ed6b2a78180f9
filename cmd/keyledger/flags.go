package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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

// before adds a check of a command's flags, which comes before cobra's own: so that what is
// wrong is said in one way.
func before(c *cobra.Command, check func(*pflag.FlagSet) error) {
	others := c.PreRunE
	c.PreRunE = func(cmd *cobra.Command, args []string) error {
		if others != nil {
			if err := others(cmd, args); err != nil {
				return err
			}
		}
		return check(cmd.Flags())
	}
}

// given says whether a flag is given, and not as --csv=false.
func given(flags *pflag.FlagSet, name string) bool {
	f := flags.Lookup(name)
	return f.Value.String() != f.DefValue || f.Changed && f.Value.Type() != "bool"
}

// require says which flags must be given.
func require(c *cobra.Command, names ...string) {
	for _, name := range names {
		if err := c.MarkFlagRequired(name); err != nil { // so that completion offers it
			panic(err) // no such flag
		}
	}
	before(c, func(flags *pflag.FlagSet) error {
		for _, name := range names {
			if f := flags.Lookup(name); !f.Changed {
				meaning, _ := pflag.UnquoteUsage(f)
				return usagef("--%s %s is missing", name, meaning)
			}
		}
		return nil
	})
}

// requireOne says of which flags at least one must be given.
func requireOne(c *cobra.Command, names ...string) {
	c.MarkFlagsOneRequired(names...)
	before(c, func(flags *pflag.FlagSet) error {
		if slices.ContainsFunc(names, flags.Changed) {
			return nil
		}
		last := len(names) - 1
		return usagef("give --%s or --%s", strings.Join(names[:last], ", --"), names[last])
	})
}

// exclusive says of which flags at most one can be given. --json may be among them.
func exclusive(c *cobra.Command, names ...string) {
	before(c, func(flags *pflag.FlagSet) error {
		for i, one := range names {
			for _, other := range names[i+1:] {
				if given(flags, one) && given(flags, other) {
					return usagef("--%s and --%s: give one of them", one, other)
				}
			}
		}
		return nil
	})
}

// together says which flags must be given with each other.
func together(c *cobra.Command, names ...string) {
	c.MarkFlagsRequiredTogether(names...)
	before(c, func(flags *pflag.FlagSet) error {
		for _, one := range names {
			for _, other := range names {
				if flags.Changed(one) && !flags.Changed(other) {
					return usagef("--%s needs --%s", one, other)
				}
			}
		}
		return nil
	})
}
