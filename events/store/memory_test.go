package store_test

import (
	"context"
	"errors"
	"testing"

	"github.com/keyledger/keyledger/events/store"
)

var (
	errNetwork = errors.New("connection lost")
	errStop    = errors.New("stop")
)

// TestMemoryFaults: what the fault hook says is what happens and what is told.
func TestMemoryFaults(t *testing.T) {
	rival := []byte("rival")
	tests := []struct {
		name     string
		fault    func(log *store.Memory) store.Fault
		sequence uint64
		err      error
		stored   string // the message at 1, "" for none
	}{
		{"none", func(*store.Memory) store.Fault { return store.Fault{} }, 1, nil, "ours"},
		{"not stored", func(*store.Memory) store.Fault { return store.Fault{Lose: true, Err: errNetwork} }, 0, errNetwork, ""},
		{"stored but reported failed", func(*store.Memory) store.Fault { return store.Fault{Err: errNetwork} }, 0, errNetwork, "ours"},
		{"acknowledged elsewhere", func(*store.Memory) store.Fault { return store.Fault{Ack: 9} }, 9, nil, "ours"},
		{"a rival first", func(log *store.Memory) store.Fault {
			return store.Fault{Before: func() {
				log.Fault = nil
				if _, err := log.Append(context.Background(), rival, 0); err != nil {
					t.Error(err)
				}
			}}
		}, 0, store.ErrConflict, "rival"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			log := new(store.Memory)
			log.Fault = func(data []byte, expected uint64) store.Fault {
				if string(data) != "ours" || expected != 0 {
					t.Errorf("the hook was asked about %q after %d", data, expected)
				}
				return test.fault(log)
			}
			sequence, err := log.Append(t.Context(), []byte("ours"), 0)
			if sequence != test.sequence || !errors.Is(err, test.err) {
				t.Errorf("told %d, %v; want %d, %v", sequence, err, test.sequence, test.err)
			}
			got, err := log.Get(t.Context(), 1)
			if string(got) != test.stored || (test.stored == "") != errors.Is(err, store.ErrNoMessage) {
				t.Errorf("stored %q (%v), want %q", got, err, test.stored)
			}
		})
	}
}

// TestMemoryKeepsItsOwn: neither what was appended nor what was read is shared.
func TestMemoryKeepsItsOwn(t *testing.T) {
	log := new(store.Memory)
	data := []byte("message")
	if _, err := log.Append(t.Context(), data, 0); err != nil {
		t.Fatal(err)
	}
	clear(data)
	for range 2 {
		got, err := log.Get(t.Context(), 1)
		if err != nil || string(got) != "message" {
			t.Fatalf("got %q, %v", got, err)
		}
		clear(got)
	}
}

func TestMemoryStopsWithItsContext(t *testing.T) {
	log := new(store.Memory)
	fill(t, log, store.Chain{}, 3)
	ctx, cancel := context.WithCancel(t.Context())
	read := 0
	err := log.Read(ctx, 1, 3, func(uint64, []byte) error {
		read++
		cancel()
		return nil
	})
	if read != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("read %d messages, %v", read, err)
	}
	if _, err := log.Append(ctx, nil, 3); !errors.Is(err, context.Canceled) {
		t.Errorf("append: %v", err)
	}
}
