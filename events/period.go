package events

import (
	"fmt"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // the zones, where the machine has none
)

// Periods of an allowance.
const (
	Day   = "day"
	Month = "month"
)

// zones keeps what Zone found: a zone is read once.
var zones sync.Map

// Zone returns the time zone of a name of the IANA database, such as "Europe/Berlin"; the
// empty name is UTC. All its names begin with a capital letter: what else a machine has
// ("localtime", "right/…") is not the same everywhere. The machine's own zone has no name
// here.
func Zone(name string) (*time.Location, error) {
	if zone, ok := zones.Load(name); ok {
		return zone.(*time.Location), nil
	}
	if name == "Local" || len(name) > 64 || name != "" && (name[0] < 'A' || name[0] > 'Z') {
		return nil, fmt.Errorf("unknown time zone %.64q", name)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("unknown time zone %q", name)
	}
	zones.Store(strings.Clone(name), zone)
	return zone, nil
}

// Period returns the bounds of the day or month that t lies in: the moments when it and
// the next one begin, at 00:00 in the zone. A boundary is the first moment whose local
// date is the new one or a later one: where clocks skip midnight that is when they go on,
// where they turn back over it the day begins once, and a day that a zone left out
// (Pacific/Apia, 2011-12-30) begins and ends in the same moment and is never returned.
func Period(every string, zone *time.Location, t Time) (start, end Time) {
	year, month, day := t.Std().In(zone).Date()
	// The local date may have been reached before and left again for an hour.
	for {
		year, month, day = nextPeriod(every, year, month, day)
		if end = startOf(year, month, day, zone); end > t {
			break
		}
	}
	for {
		year, month, day = lastPeriod(every, year, month, day)
		if start = startOf(year, month, day, zone); start < end {
			return start, end
		}
	}
}

// nextPeriod is the first date of the period after the one that a date lies in.
func nextPeriod(every string, year int, month time.Month, day int) (int, time.Month, int) {
	if every == Month {
		return time.Date(year, month+1, 1, 12, 0, 0, 0, time.UTC).Date()
	}
	return time.Date(year, month, day+1, 12, 0, 0, 0, time.UTC).Date()
}

// lastPeriod is the first date of the period before the one that begins with a date.
func lastPeriod(every string, year int, month time.Month, day int) (int, time.Month, int) {
	if every == Month {
		return time.Date(year, month-1, 1, 12, 0, 0, 0, time.UTC).Date()
	}
	return time.Date(year, month, day-1, 12, 0, 0, 0, time.UTC).Date()
}

// startOf returns the first moment whose local date is the given one or a later one. No
// zone is further from UTC than a day, so the search begins where that date has surely
// not come, and goes over the zone's changes of its clocks, which are few.
func startOf(year int, month time.Month, day int, zone *time.Location) Time {
	midnight := time.Date(year, month, day, 0, 0, 0, 0, time.UTC) // on the local clock
	for at := midnight.Add(-30 * time.Hour); ; {
		_, offset := at.In(zone).Zone()
		_, until := at.In(zone).ZoneBounds()
		here := midnight.Add(-time.Duration(offset) * time.Second)
		if here.Before(at) {
			here = at // the clocks jumped over it
		}
		if !until.IsZero() && !until.After(at) {
			// Past the years that a zone's table lists, go1.26's ZoneBounds says of the last
			// day of a leap year that it is over.
			until = at.Add(time.Hour)
		}
		if until.IsZero() || here.Before(until) {
			return At(here)
		}
		at = until
	}
}
