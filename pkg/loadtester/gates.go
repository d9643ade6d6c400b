package loadtester

import (
	"context"
	"sync"
)

// Kinds of gates. Those of one kind have nothing to do with those of the other.
const (
	kindGate     = "gate"
	kindRollback = "rollback"
)

// Gate is one gate of one Canary.
type Gate struct {
	// Kind is gate or rollback.
	Kind            string
	Namespace, Name string
}

// Gates remember which gates are open. A gate that nobody opened is closed.
type Gates interface {
	Open(ctx context.Context, g Gate) (bool, error)
	Set(ctx context.Context, g Gate, open bool) error
}

// MemoryGates are Gates that are closed again after a restart.
type MemoryGates struct{ open sync.Map }

// Open is whether somebody opened the gate.
func (m *MemoryGates) Open(_ context.Context, g Gate) (bool, error) {
	_, open := m.open.Load(g)
	return open, nil
}

// Set opens or closes the gate.
func (m *MemoryGates) Set(_ context.Context, g Gate, open bool) error {
	if open {
		m.open.Store(g, true)
	} else {
		m.open.Delete(g)
	}
	return nil
}
