package webhooks

import (
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func newSchedule(t testing.TB, jitter, random float64) *Schedule {
	t.Helper()
	s, err := NewSchedule(DefaultDelays(), jitter, func() float64 { return random })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDefaultSchedule(t *testing.T) {
	want := []string{"0s", "5s", "5m0s", "30m0s", "2h0m0s", "5h0m0s", "10h0m0s", "14h0m0s", "20h0m0s", "24h0m0s"}
	s := newSchedule(t, 0, 0)
	var got []string
	var total time.Duration
	for tries := 0; ; tries++ {
		wait, ok := s.Wait(tries, 0)
		if !ok {
			break
		}
		got = append(got, wait.String())
		total += wait
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("waits (-want +got):\n%s", diff)
	}
	if total.Round(time.Hour) != 76*time.Hour || s.Tries() != 10 {
		t.Errorf("%d tries in %s, want 10 in about 75 h 35 min", s.Tries(), total)
	}
	for _, tries := range []int{-1, 10, 11} {
		if wait, ok := s.Wait(tries, time.Hour); ok {
			t.Errorf("after %d tries another one, in %s", tries, wait)
		}
	}
}

func TestWait(t *testing.T) {
	for _, tt := range []struct {
		jitter, random float64
		tries          int
		retryAfter     time.Duration
		want           time.Duration
	}{
		{0.1, 0, 1, 0, 5 * time.Second},
		{0.1, 0.5, 1, 0, 5250 * time.Millisecond},
		{1, 0.5, 1, 0, 7500 * time.Millisecond},
		{0.1, 0.5, 0, 0, 0},                                     // at once is at once
		{0.1, 0.5, 9, 0, MaxWait},                               // jitter goes no further either
		{0.1, 0.5, 1, 5 * time.Second, 5250 * time.Millisecond}, // the later of the two
		{0.1, 0.5, 1, 6 * time.Second, 6 * time.Second},
		{0, 0, 1, 25 * time.Hour, MaxWait},
		{0, 0, 4, time.Minute, 2 * time.Hour},
		{0, 0, 1, -time.Hour, 5 * time.Second},
	} {
		got, ok := newSchedule(t, tt.jitter, tt.random).Wait(tt.tries, tt.retryAfter)
		if !ok || got != tt.want {
			t.Errorf("%+v: wait %s, %v", tt, got, ok)
		}
	}
}

func TestWaitIsNeverShortenedNorBeyondTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		delays := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(MaxWait)).Draw(t, "delay"))
		}), 1, MaxTries).Draw(t, "delays")
		random := rapid.Float64Range(0, math.Nextafter(1, 0)).Draw(t, "random")
		jitter := rapid.Float64Range(0, 1).Draw(t, "jitter")
		s, err := NewSchedule(delays, jitter, func() float64 { return random })
		if err != nil {
			t.Fatal(err)
		}
		after := time.Duration(rapid.Int64().Draw(t, "retry after"))
		for tries, delay := range delays {
			wait, ok := s.Wait(tries, after)
			if !ok || wait < delay || wait < min(after, MaxWait) || wait > MaxWait {
				t.Fatalf("after %d tries: %s, %v", tries, wait, ok)
			}
		}
	})
}

func TestNewScheduleLimits(t *testing.T) {
	random := func() float64 { return 0 }
	many := make([]time.Duration, MaxTries)
	for _, tt := range []struct {
		what   string
		delays []time.Duration
		jitter float64
		random func() float64
		ok     bool
	}{
		{"one try", []time.Duration{0}, 0, random, true},
		{"most tries", many, 1, random, true},
		{"longest wait", []time.Duration{MaxWait}, 1, random, true},
		{"no try", nil, 0, random, false},
		{"too many tries", append(many, 0), 0, random, false},
		{"wait too long", []time.Duration{MaxWait + 1}, 0, random, false},
		{"negative wait", []time.Duration{-1}, 0, random, false},
		{"negative jitter", many, -0.1, random, false},
		{"jitter above 1", many, 1.1, random, false},
		{"jitter not a number", many, math.NaN(), random, false},
		{"no randomness", many, 0, nil, false},
	} {
		if _, err := NewSchedule(tt.delays, tt.jitter, tt.random); (err == nil) != tt.ok {
			t.Errorf("%s: error %v", tt.what, err)
		}
	}
	delays := []time.Duration{time.Second}
	s, err := NewSchedule(delays, 0, random)
	if err != nil {
		t.Fatal(err)
	}
	delays[0] = time.Hour
	if wait, _ := s.Wait(0, 0); wait != time.Second {
		t.Error("the schedule changes with the caller's slice")
	}
}

func TestClassify(t *testing.T) {
	special := map[int]Outcome{
		410: OutcomeGone,
		429: OutcomeHeldBack, 502: OutcomeHeldBack, 503: OutcomeHeldBack, 504: OutcomeHeldBack,
	}
	for status := range 1000 {
		want := OutcomeFailed
		if status/100 == 2 {
			want = OutcomeDelivered
		}
		if o, ok := special[status]; ok {
			want = o
		}
		if got := Classify(status); got != want {
			t.Errorf("%d: %s, want %s", status, got, want)
		}
	}
}

func TestAfter(t *testing.T) {
	s := newSchedule(t, 0, 0)
	for _, tt := range []struct {
		outcome    Outcome
		tries      int
		retryAfter time.Duration
		want       Step
	}{
		{OutcomeDelivered, 1, 0, Step{State: StateDelivered}},
		{OutcomeDelivered, 10, time.Hour, Step{State: StateDelivered}},
		{OutcomeFailed, 1, 0, Step{State: StatePending, Wait: 5 * time.Second}},
		{OutcomeFailed, 9, 0, Step{State: StatePending, Wait: 24 * time.Hour}},
		{OutcomeFailed, 10, 0, Step{State: StateDead}},
		{OutcomeFailed, 11, 0, Step{State: StateDead}},
		{OutcomeFailed, 10, time.Hour, Step{State: StateDead}},
		{OutcomeFailed, 1, time.Minute, Step{State: StatePending, Wait: time.Minute}},
		{OutcomeHeldBack, 1, 0, Step{State: StatePending, Wait: 5 * time.Second, Hold: 5 * time.Second}},
		{OutcomeHeldBack, 2, time.Hour, Step{State: StatePending, Wait: time.Hour, Hold: time.Hour}},
		{OutcomeHeldBack, 2, 99 * time.Hour, Step{State: StatePending, Wait: 24 * time.Hour, Hold: 24 * time.Hour}},
		{OutcomeHeldBack, 10, time.Hour, Step{State: StateDead, Hold: time.Hour}},
		{OutcomeHeldBack, 10, 99 * time.Hour, Step{State: StateDead, Hold: 24 * time.Hour}},
		{OutcomeGone, 1, 0, Step{State: StatePending, Wait: 5 * time.Second, Disable: true}},
		{OutcomeGone, 10, 0, Step{State: StateDead, Disable: true}},
	} {
		if diff := cmp.Diff(tt.want, s.After(tt.outcome, tt.tries, tt.retryAfter)); diff != "" {
			t.Errorf("%s after %d tries (-want +got):\n%s", tt.outcome, tt.tries, diff)
		}
	}
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "1": time.Second, "120": 2 * time.Minute, " 120\t": 2 * time.Minute, "007": 7 * time.Second,
		"86400": MaxWait, "86401": MaxWait, "99999999999999999999999999": MaxWait, "9223372036854775808": MaxWait,
		"-1": 0, "+1": 0, "1.5": 0, "1e3": 0, "0x10": 0, "soon": 0, "1 2": 0, "１": 0,
		now.Add(time.Hour).Format(http.TimeFormat):             time.Hour,
		now.Format(http.TimeFormat):                            0,
		now.Add(-time.Hour).Format(http.TimeFormat):            0,
		now.Add(1000 * time.Hour).Format(http.TimeFormat):      MaxWait,
		"Sunday, 01-Mar-26 13:00:00 GMT":                       time.Hour, // RFC 850
		"Sun Mar  1 13:00:00 2026":                             time.Hour, // asctime
		"Sun, 01 Mar 2026 25:00:00 GMT":                        0,
		"2026-03-01T13:00:00Z":                                 0,
		now.In(time.FixedZone("", 3600)).Format(time.RFC1123Z): 0,
		"Fri, 31 Dec 9999 23:59:59 GMT":                        MaxWait,
		"Mon, 01 Jan 0001 00:00:00 GMT":                        0,
	} {
		if got := ParseRetryAfter(value, now); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}
