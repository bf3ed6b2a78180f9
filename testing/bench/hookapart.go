package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/keyledger/keyledger/cmd/keyledger/load"
)

// hookFactor is by how much a figure may differ that is not to change.
const hookFactor = 1.3

// hookPeers are figures of others on such a machine, as published beside each other.
var hookPeers = []string{
	"for scale, on two cores at 200 events/s: Outpost 27 ms and 53 ms (p50, p99), with 10 % hanging its healthy endpoints got 113 of 180/s, p99 17 s;",
	"Convoy 0.8 s and 1.3 s, with 10 % hanging 90 of 180/s; at most Outpost made 2,050 to 2,375 deliveries/s, Convoy 300",
}

// isolation is what "bench hooks -only isolation" measured.
type isolation struct {
	Endpoints int              `json:"endpoints"`
	Watched   int              `json:"watched_endpoints"` // those that hang in no run
	Rate      float64          `json:"events_per_second"` // for all of them alike
	Levels    []*isolatedLevel `json:"levels"`
}

// isolatedLevel is a share of endpoints that hang, and what the watched ones got.
type isolatedLevel struct {
	Percent   int     `json:"hanging_percent"`
	Hanging   int     `json:"hanging"`
	Rate      float64 `json:"deliveries_per_second"`
	P50Micros float64 `json:"from_due_p50_us"`
	P99Micros float64 `json:"from_due_p99_us"`
	Late      int64   `json:"not_there_in_time"` // of what was due
	ToNone    float64 `json:"rate_of_none_to_this"`
	TailRatio float64 `json:"p99_to_none"`

	rates, p50, p99 []float64
}

// isolation measures endpoints beside more and more that hang, each time with a
// keyledger of its own.
func (c *hooksConfig) isolation(ctx context.Context, dir string, r *hooksReport) error {
	most := (c.many*slices.Max(c.hang) + 99) / 100
	o := &isolation{Endpoints: c.many, Watched: c.many - most, Rate: c.rate}
	for _, percent := range c.hang {
		o.Levels = append(o.Levels, &isolatedLevel{Percent: percent, Hanging: (c.many*percent + 99) / 100})
	}
	for range c.rounds {
		for _, l := range o.Levels {
			err := c.with(ctx, dir, c.many, 1, func(h *hooked) error {
				p, err := c.paced(ctx, h, c.rate, most, l.Hanging)
				if err != nil {
					return err
				}
				l.rates = append(l.rates, float64(p.watched)/c.measure.Seconds())
				l.p50, l.p99, l.Late = append(l.p50, p.dueP50), append(l.p99, p.dueP99), l.Late+p.late
				return nil
			})
			if err != nil {
				return fmt.Errorf("%d %% hang: %w", l.Percent, err)
			}
		}
	}
	none := o.Levels[0]
	for _, l := range o.Levels {
		l.Rate, l.P50Micros, l.P99Micros = load.Median(l.rates), load.Median(l.p50), load.Median(l.p99)
		l.ToNone, l.TailRatio = ratio(none.Rate, l.Rate), ratio(l.P99Micros, none.P99Micros)
	}
	r.Isolation = o
	return nil
}

func (o *isolation) print(w io.Writer) error {
	table := newTable(w, "hang", "of endpoints", "healthy ones get", "none's rate to it", "p50 from due", "p99 from due", "p99 to none's", "not within 10 s", "aim")
	for _, l := range o.Levels {
		table.row(fmt.Sprintf("%d %%", l.Percent), fmt.Sprintf("%d of %d", l.Hanging, o.Endpoints), perSecond(l.Rate)+"/s", twoDigits(l.ToNone),
			milliseconds(l.P50Micros), milliseconds(l.P99Micros), twoDigits(l.TailRatio), l.Late, fmt.Sprintf("≤ %.1f", hookFactor))
	}
	return errors.Join(table.flush(), note(w, append([]string{
		fmt.Sprintf("%s events/s for all alike; the %d endpoints that hang in no run are watched", perSecond(o.Rate), o.Watched)}, hookPeers...)...))
}
