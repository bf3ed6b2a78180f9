package events_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
)

// oddZones are zones whose clocks were set over midnight, left out a day or half an hour,
// or changed their rules often, and a few plain ones.
var oddZones = []string{
	"UTC", "America/New_York", "Asia/Kathmandu", "Pacific/Apia", "America/Sao_Paulo", "Asia/Beirut", "Africa/Cairo",
	"America/Havana", "Atlantic/Azores", "Asia/Gaza", "America/St_Johns", "Antarctica/Troll", "Europe/Dublin",
	"Australia/Lord_Howe", "Pacific/Kiritimati", "Pacific/Kwajalein", "Pacific/Kanton", "Africa/Casablanca", "America/Asuncion",
	"America/Santiago", "Asia/Amman", "Asia/Damascus", "Asia/Tehran", "America/Scoresbysund", "America/Godthab",
	"Africa/Monrovia", "Asia/Pyongyang", "America/Caracas", "Antarctica/Casey", "Asia/Dhaka", "Europe/Berlin",
	"Pacific/Chatham", "Pacific/Tongatapu", "America/Campo_Grande", "Asia/Hebron", "Europe/Moscow", "Asia/Riyadh",
}

func zoneOf(t interface{ Fatal(...any) }, name string) *time.Location {
	zone, err := events.Zone(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func moment(t *testing.T, text string) events.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return events.At(at)
}

// What is known of single days and months, from the zones' own histories.
func TestPeriodOfKnownDays(t *testing.T) {
	for _, c := range []struct{ name, every, zone, at, start, end string }{
		{"a day in UTC", "day", "UTC", "2026-03-01T12:00:00Z", "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"},
		{"the leap day", "day", "UTC", "2028-02-29T23:59:59.999Z", "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"},
		{"a leap year's February", "month", "UTC", "2028-02-29T23:59:59.999Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"},
		{"1900 had no leap day, 2100 has none", "month", "UTC", "2100-02-28T23:59:59.999Z", "2100-02-01T00:00:00Z", "2100-03-01T00:00:00Z"},
		{"the 31st", "month", "UTC", "2026-01-31T00:00:00Z", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"},
		{"the year's end", "month", "UTC", "2026-12-31T23:59:59.999Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{"a quarter of an hour", "day", "Asia/Kathmandu", "2026-03-01T18:15:00Z", "2026-03-01T18:15:00Z", "2026-03-02T18:15:00Z"},
		{"15 minutes that Nepal left out", "day", "Asia/Kathmandu", "1985-12-31T18:30:00Z", "1985-12-31T18:30:00Z", "1986-01-01T18:15:00Z"},
		{"23 hours", "day", "America/New_York", "2026-03-08T12:00:00Z", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"},
		{"25 hours", "day", "America/New_York", "2026-11-01T12:00:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"},
		{"a month across a change", "month", "America/New_York", "2026-03-20T12:00:00Z", "2026-03-01T05:00:00Z", "2026-04-01T04:00:00Z"},
		{"the day before the one Samoa left out", "day", "Pacific/Apia", "2011-12-30T09:59:59.999Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"},
		{"the day after it", "day", "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"},
		{"the month of it", "month", "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-01T10:00:00Z", "2011-12-31T10:00:00Z"},
		{"the day before Brazil skips midnight", "day", "America/Sao_Paulo", "2018-11-04T02:59:59.999Z", "2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z"},
		{"it begins at 01:00", "day", "America/Sao_Paulo", "2018-11-04T03:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"},
		{"Brazil's 25 hours, before the clocks turn back from midnight", "day", "America/Sao_Paulo", "2018-02-18T01:30:00Z", "2018-02-17T02:00:00Z", "2018-02-18T03:00:00Z"},
		{"and after", "day", "America/Sao_Paulo", "2018-02-18T02:30:00Z", "2018-02-17T02:00:00Z", "2018-02-18T03:00:00Z"},
		{"Lebanon skips midnight", "day", "Asia/Beirut", "2024-03-30T22:00:00Z", "2024-03-30T22:00:00Z", "2024-03-31T21:00:00Z"},
		{"Egypt skips midnight", "day", "Africa/Cairo", "2023-04-27T22:00:00Z", "2023-04-27T22:00:00Z", "2023-04-28T21:00:00Z"},
		{"Egypt's 25 hours", "day", "Africa/Cairo", "2023-10-26T21:30:00Z", "2023-10-25T21:00:00Z", "2023-10-26T22:00:00Z"},
		{"Cuba skips midnight", "day", "America/Havana", "2024-03-10T05:00:00Z", "2024-03-10T05:00:00Z", "2024-03-11T04:00:00Z"},
		{"Cuba has midnight twice, and one of them counts", "day", "America/Havana", "2024-11-03T05:00:00Z", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z"},
		{"the Azores skip midnight", "day", "Atlantic/Azores", "2024-03-31T01:00:00Z", "2024-03-31T01:00:00Z", "2024-04-01T00:00:00Z"},
		{"Newfoundland's minute of the new day", "day", "America/St_Johns", "2010-11-07T02:30:00Z", "2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z"},
		{"and the hour after it, again of the old", "day", "America/St_Johns", "2010-11-07T03:29:59.999Z", "2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z"},
		{"the day before them", "day", "America/St_Johns", "2010-11-07T02:29:59.999Z", "2010-11-06T02:30:00Z", "2010-11-07T02:30:00Z"},
		{"22 hours", "day", "Antarctica/Troll", "2024-03-31T12:00:00Z", "2024-03-31T00:00:00Z", "2024-03-31T22:00:00Z"},
		{"26 hours", "day", "Antarctica/Troll", "2024-10-27T12:00:00Z", "2024-10-26T22:00:00Z", "2024-10-28T00:00:00Z"},
		{"winter time by law", "day", "Europe/Dublin", "2024-10-27T12:00:00Z", "2024-10-26T23:00:00Z", "2024-10-28T00:00:00Z"},
		{"the end of a leap year beyond a zone's table", "day", "America/New_York", "2040-12-31T12:00:00Z", "2040-12-31T05:00:00Z", "2041-01-01T05:00:00Z"},
		{"and its month", "month", "Pacific/Auckland", "2044-12-31T12:00:00Z", "2044-12-31T11:00:00Z", "2045-01-31T11:00:00Z"},
		{"and the day before", "day", "Europe/Berlin", "2040-12-30T23:30:00Z", "2040-12-30T23:00:00Z", "2040-12-31T23:00:00Z"},
		{"a zone's rules go on", "day", "America/New_York", "2500-07-01T12:00:00Z", "2500-07-01T04:00:00Z", "2500-07-02T04:00:00Z"},
	} {
		start, end := events.Period(c.every, zoneOf(t, c.zone), moment(t, c.at))
		if start != moment(t, c.start) || end != moment(t, c.end) {
			t.Errorf("%s: %s of %s in %s is from %s to %s, want from %s to %s", c.name, c.every, c.at, c.zone, start, end, c.start, c.end)
		}
	}
}

// boundariesOf looks at every second near a change of the local date, and at every minute
// else, and returns the moments between from and to at which a date was reached that was
// not reached before.
func boundariesOf(every string, zone *time.Location, from, to time.Time) (list []events.Time) {
	reached := func(at time.Time) int {
		year, month, day := at.In(zone).Date()
		if every == events.Month {
			day = 1
		}
		return (year*100+int(month))*100 + day
	}
	last := reached(from)
	for at := from; !at.After(to); at = at.Add(time.Minute) {
		if reached(at) <= last {
			continue
		}
		first := at
		for reached(first.Add(-time.Second)) > last {
			first = first.Add(-time.Second)
		}
		last = reached(at)
		list = append(list, events.At(first))
	}
	return list
}

// Periods follow each other without a gap and without overlap, and begin where a scan of
// the clock finds a new local date, once for each date.
func TestPeriodAgainstAScanOfTheClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zone := zoneOf(t, rapid.SampledFrom(oddZones).Draw(t, "zone"))
		every, days := events.Day, 10
		if rapid.IntRange(0, 4).Draw(t, "months") == 0 {
			every, days = events.Month, 100
		}
		first, last := time.Date(1970, 1, 2, 0, 0, 0, 0, time.UTC), time.Date(2045, 1, 1, 0, 0, 0, 0, time.UTC)
		at := time.Unix(rapid.Int64Range(first.Unix(), last.Unix()).Draw(t, "at")/60*60, 0)
		if rapid.IntRange(0, 3).Draw(t, "at a change") > 0 {
			if _, change := at.In(zone).ZoneBounds(); !change.IsZero() {
				at = change
			}
		}
		length := time.Duration(days) * 12 * time.Hour
		from, to := at.Add(-length).Truncate(time.Minute), at.Add(length)
		list := boundariesOf(every, zone, from, to)
		for i := range len(list) - 1 {
			inside := rapid.Int64Range(int64(list[i]), int64(list[i+1])-1).Draw(t, "inside")
			for _, now := range []events.Time{list[i], list[i] + 1, events.Time(inside), list[i+1] - 1} {
				start, end := events.Period(every, zone, now)
				if start != list[i] || end != list[i+1] {
					t.Fatalf("the %s of %s in %s is from %s to %s; the clock says from %s to %s", every, now, zone, start, end, list[i], list[i+1])
				}
			}
		}
		if len(list) < 2 {
			t.Fatalf("%d boundaries between %s and %s", len(list), from, to)
		}
	})
}

// Every change of every odd zone, from 1970 on: the days around it, hour by hour.
func TestPeriodAroundEveryChange(t *testing.T) {
	for _, name := range oddZones {
		zone := zoneOf(t, name)
		changes := 0
		for at := time.Date(1970, 1, 2, 0, 0, 0, 0, time.UTC); at.Year() < 2040; changes++ {
			_, change := at.In(zone).ZoneBounds()
			if change.IsZero() {
				break
			}
			list := boundariesOf(events.Day, zone, change.Add(-60*time.Hour).Truncate(time.Minute), change.Add(60*time.Hour))
			for now := list[0]; now < list[len(list)-1]; now += 3_600_000 {
				i, found := slices.BinarySearch(list, now)
				if !found {
					i--
				}
				if start, end := events.Period(events.Day, zone, now); start != list[i] || end != list[i+1] {
					t.Fatalf("the day of %s in %s is from %s to %s; the clock says from %s to %s", now, name, start, end, list[i], list[i+1])
				}
			}
			at = change
		}
		if changes == 0 && name != "UTC" {
			t.Errorf("%s has no change to look at", name)
		}
	}
}

func TestZone(t *testing.T) {
	for _, name := range []string{"", "UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+12", "EST5EDT"} {
		if zone, err := events.Zone(name); err != nil || zone == time.Local {
			t.Errorf("%q: %v, %v", name, zone, err)
		}
	}
	for _, name := range []string{
		"Local", "local", "localtime", "right/UTC", "posix/UTC", "posixrules", "europe/berlin", "Europe", "Europe/", "Mars/Olympus", "../UTC", "/etc/localtime",
		"Europe/../UTC", "+02:00", "\x00", "Europe/Berlin\x00", "Aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	} {
		if zone, err := events.Zone(name); err == nil {
			t.Errorf("%q is the zone %v", name, zone)
		}
	}
}

func BenchmarkPeriod(b *testing.B) {
	for _, name := range []string{"UTC", "America/New_York", "Africa/Cairo"} {
		zone := zoneOf(b, name)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				events.Period(events.Day, zone, events.Time(1_800_000_000_000+int64(i)*1000))
			}
		})
	}
}
