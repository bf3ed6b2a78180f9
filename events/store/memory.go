package store

import (
	"context"
	"sync"
)

// Memory is a Log in memory, with a hook for faults: the only double of the log, for
// tests that must decide what goes wrong and when.
type Memory struct {
	mu       sync.Mutex
	messages [][]byte

	// Fault, when set, is asked at each append what shall happen to it. It is set before
	// the log is used.
	Fault func(data []byte, expected uint64) Fault

	// ReadFault, when set, is asked at each read of a message whether it fails. It is set
	// before the log is used.
	ReadFault func(sequence uint64) error
}

// Fault is what happens to one append. A write can fail in two ways and both must be
// tested: not stored, and stored but reported failed.
type Fault struct {
	Lose   bool   // do not store
	Err    error  // report this whatever happened
	Ack    uint64 // answer this sequence instead of the real one, when not 0
	Before func() // runs before the append is looked at: another writer can act here
}

// Append implements Log.
func (m *Memory) Append(ctx context.Context, data []byte, expected uint64) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	var fault Fault
	if m.Fault != nil {
		fault = m.Fault(data, expected)
	}
	if fault.Before != nil {
		fault.Before()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !fault.Lose {
		if uint64(len(m.messages)) != expected {
			return 0, ErrConflict
		}
		m.messages = append(m.messages, append([]byte(nil), data...))
	}
	if fault.Err != nil {
		return 0, fault.Err
	}
	if fault.Ack != 0 {
		return fault.Ack, nil
	}
	return uint64(len(m.messages)), nil
}

// Last implements Log.
func (m *Memory) Last(context.Context) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return uint64(len(m.messages)), nil
}

// Get implements Log.
func (m *Memory) Get(_ context.Context, sequence uint64) ([]byte, error) {
	if m.ReadFault != nil {
		if err := m.ReadFault(sequence); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if sequence == 0 || sequence > uint64(len(m.messages)) || m.messages[sequence-1] == nil {
		return nil, ErrNoMessage
	}
	return append([]byte(nil), m.messages[sequence-1]...), nil
}

// Read implements Log.
func (m *Memory) Read(ctx context.Context, from, to uint64, f func(uint64, []byte) error) error {
	for sequence := max(from, 1); sequence <= to; sequence++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := m.Get(ctx, sequence)
		if err == ErrNoMessage {
			continue
		}
		if err != nil {
			return err
		}
		if err := f(sequence, data); err != nil {
			return err
		}
	}
	return nil
}

// Damage replaces one stored message; nil makes it vanish without a trace, as a corrupt
// record does.
func (m *Memory) Damage(sequence uint64, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.messages[sequence-1] = data
}
