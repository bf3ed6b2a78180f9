package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger/client"
)

const (
	hookLivesMS = 1_500  // between a first delivery and the next kill, at most: checkpoints are made each second
	hookMany    = 10_000 // deliveries: more than there are between two kills
)

// kill -9 while it delivers to receivers of every kind and their endpoints change, twenty
// times, every other time with the saved directory gone: what the log owes each is delivered, pending, dead or jumped over, what was
// delivered long before a kill does not come again, and ordered endpoints keep their order.
func TestDeliveriesUnderKillNine(t *testing.T) {
	kills := rounds(t, 20)
	seed := seedOf(t)
	h := startHooks(t, seed)
	ledgerd := newChild(t)
	ledgerd.quick = true
	ledgerd.start()
	conn := connect(t, ledgerd)
	l := newHookLoad(t, client.New(conn), h, seed)
	stop := l.start()
	var killed []time.Time
	for n := range kills {
		h.delivered(1, patience)
		lives := time.Duration(h.intN(hookLivesMS)) * time.Millisecond
		if n%10 == 1 { // so long that what was delivered at its beginning must be remembered
			lives = hookWithin + time.Second
		}
		h.delivered(hookMany, lives)
		killed = append(killed, time.Now())
		ledgerd.kill()
		if n%2 == 1 { // then it has the checkpoint alone to go by
			_ = os.Remove(filepath.Join(ledgerd.dir, store.DirWebhooks, store.FileDirectory(0))) // there may be none yet
		}
		ledgerd.start()
	}
	h.delivered(200, patience)
	stop()
	l.resume()
	h.check(t, conn, ledgerd.dir, killed)
	t.Logf("changes: %v", l.changes)
}

// The power is cut while it delivers: no number ever names two events, not even one that
// the cut took back, and no cursor is ahead of what was delivered.
func TestDeliveriesWhenThePowerIsCut(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	for n := range rounds(t, 3) {
		t.Run(fmt.Sprintf("round %d", n), func(t *testing.T) { cutHooks(t, seed+uint64(n)) })
		if t.Failed() || t.Skipped() {
			return
		}
	}
}

func cutHooks(t *testing.T, seed uint64) {
	d := newDisk(t)
	h := startHooks(t, seed)
	p := newProgram(t, filepath.Join(d.mount, "data"))
	p.quick = true
	p.child.start()
	conn := connect(t, p.child)
	l := newHookLoad(t, client.New(conn), h, seed)
	stop := l.start()
	h.delivered(1, patience)
	h.delivered(hookMany, time.Duration(h.intN(2*hookLivesMS))*time.Millisecond)
	cut := []time.Time{time.Now()}
	d.cutPower(p)
	p.child.start()
	h.delivered(200, patience)
	stop()
	l.resume()
	h.check(t, conn, p.dir, cut)
	conn.Close()
	p.kill()
}
