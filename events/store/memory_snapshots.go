package store

import (
	"context"
	"slices"
	"sync"
)

// MemorySnapshots keeps snapshots in memory, beside a Memory log.
type MemorySnapshots struct {
	mu       sync.Mutex // guards all below
	finished []Snapshot
	chunks   map[string][][]byte // finished or not

	// Fail, when set, is asked before each "append", "finish" and "prune"; its error is
	// what comes of it. It is set before the store is used.
	Fail func(step string) error
}

func (m *MemorySnapshots) fail(step string) error {
	if m.Fail == nil {
		return nil
	}
	return m.Fail(step)
}

// List implements Snapshots.
func (m *MemorySnapshots) List(context.Context) ([]Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := slices.Clone(m.finished)
	sortSnapshots(list)
	return list, nil
}

// Append implements Snapshots.
func (m *MemorySnapshots) Append(_ context.Context, s *Snapshot, chunk []byte) error {
	if err := m.fail("append"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.chunks == nil {
		m.chunks = map[string][][]byte{}
	}
	m.chunks[s.ID] = append(m.chunks[s.ID], slices.Clone(chunk))
	s.Bytes += int64(len(chunk))
	return nil
}

// Finish implements Snapshots.
func (m *MemorySnapshots) Finish(_ context.Context, s *Snapshot) error {
	if err := m.fail("finish"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.finished = append(m.finished, *s)
	return nil
}

// Read implements Snapshots.
func (m *MemorySnapshots) Read(_ context.Context, id string, f func([]byte) error) error {
	m.mu.Lock()
	chunks := m.chunks[id]
	m.mu.Unlock()
	for _, chunk := range chunks {
		if err := f(slices.Clone(chunk)); err != nil {
			return err
		}
	}
	return nil
}

// Prune implements Snapshots.
func (m *MemorySnapshots) Prune(_ context.Context, keep string) error {
	if err := m.fail("prune"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.finished = slices.DeleteFunc(m.finished, func(s Snapshot) bool { return s.ID != keep })
	for id := range m.chunks {
		if id != keep {
			delete(m.chunks, id)
		}
	}
	return nil
}

// Damage replaces the chunks of a snapshot; none leaves it on the list without any.
func (m *MemorySnapshots) Damage(id string, chunks ...[]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.chunks[id] = chunks
}
