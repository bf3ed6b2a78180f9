package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
)

// momentFlags ask for the past. Empty ones mean now.
type momentFlags struct{ position, time string }

func (f *momentFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.position, "at-position", "", "as it was after this `POSITION`, such as 0:42.0, or 0:42 for a whole commit")
	c.Flags().StringVar(&f.time, "at-time", "", "as it was then, `WHEN`: "+whenText)
	exclusive(c, "at-position", "at-time")
}

// fill adds to the body of a query what was given.
func (f *momentFlags) fill(body map[string]any) error {
	at, err := position("at-position", f.position)
	if err != nil {
		return err
	}
	if at.Sequence != 0 {
		body["at_position"] = f.position
	}
	when, err := parseAnyTime("at-time", f.time, time.Now())
	if err != nil {
		return err
	}
	if when != events.Time(0) {
		body["at_time"] = when
	}
	return nil
}
