package store_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events/store"
)

// Whatever the range and however few are expected, exactly the messages on the subjects that
// are asked for come, each once and in order, with their subjects; an error ends it.
func TestForwards(t *testing.T) {
	js := startJetStream(t)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, AllowDirect: true})
	if err != nil {
		t.Fatal(err)
	}
	const messages = 1500
	subject := func(sequence uint64) string { // runs of both kinds, of all lengths
		if sequence/100%3 == 0 || sequence%7 == 0 && sequence < 1000 {
			return fmt.Sprintf("s.wanted.%d", sequence%5)
		}
		return "s.other.0"
	}
	for i := range messages {
		if _, err := js.PublishAsync(subject(uint64(i+1)), fmt.Append(nil, i+1)); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	enough := errors.New("enough")
	for _, few := range []int{0, 1, 16, 64, 256, 1000} {
		for _, at := range [][2]uint64{{1, messages + 1}, {1, 1}, {7, 8}, {8, 9}, {95, 700}, {701, messages + 1}, {messages, messages + 500}, {messages + 1, messages + 500}} {
			for _, most := range []int{1, 40, messages} {
				var got, want []uint64
				for sequence := at[0]; sequence < min(at[1], messages+1) && len(want) < most; sequence++ {
					if subject(sequence)[2] == 'w' {
						want = append(want, sequence)
					}
				}
				err := store.Forwards(t.Context(), js.Conn(), "S", "s.wanted.*", at[0], at[1], few, func(m *store.Scanned) error {
					if m.Subject != subject(m.Sequence) || string(m.Data) != fmt.Sprint(m.Sequence) {
						t.Errorf("message %d on %s: %s", m.Sequence, m.Subject, m.Data)
					}
					if got = append(got, m.Sequence); len(got) == most {
						return enough
					}
					return nil
				})
				if fmt.Sprint(got) != fmt.Sprint(want) || (err != nil) != (len(want) == most) || err != nil && !errors.Is(err, enough) {
					t.Errorf("%d to %d, at first %d, at most %d: %v, %v; want %v", at[0], at[1], few, most, got, err, want)
				}
			}
		}
	}
}
