package faults

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/testing/receiver"
)

// cutAnswers is how many answers there are at most between a start and the cut.
const cutAnswers = 1_500

// random is the source of a random test. Its seed is printed and taken back.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(seedOf(t), 0))
}

// The power is cut under load, in every second round after a kill -9 and a start: nothing
// acknowledged is missing, nothing is doubled, and no witness raises a false alarm.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	r := random(t)
	for n := range rounds(t, 3) {
		cut := 1 + r.Int64N(cutAnswers)
		t.Run(fmt.Sprintf("round %d", n), func(t *testing.T) { powerCut(t, cut, n%2 == 1) })
		if t.Failed() || t.Skipped() {
			return
		}
	}
}

// powerCut cuts the power after so many answers.
func powerCut(t *testing.T, answers int64, killFirst bool) {
	d := newDisk(t)
	hooks, err := receiver.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer hooks.Close()
	p := newProgram(t, filepath.Join(d.mount, "data"))
	p.start()
	conn := connect(t, p.child)
	c := client.New(conn)
	l := newLoad(t, c, hooks)
	l.within, l.every = 500*time.Millisecond, answers
	stop := l.start(c)
	<-l.progress
	if killFirst {
		p.kill()
		p.start()
		<-l.progress
	}
	d.cutPower(p)
	p.start()
	<-l.progress
	stop()
	t.Logf("%d answers, cut after %d, killed before: %t", l.answered.Load(), answers, killFirst)
	commits := readLog(t, conn)
	l.checkAnswers(commits)
	checkBalances(t, c, commits)
	checkFeed(t, conn, commits)
	checkHooks(t, hooks, commits)
	conn.Close()
	p.kill()
}

// The same method on a server that syncs lazily shows the loss. If it did not, the test
// above would prove nothing.
func TestPowerCutShowsLazySync(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	p := newProgram(t, filepath.Join(d.mount, "data"), "--unsafe-lazy-sync")
	p.start()
	conn := connect(t, p.child)
	told := openAccounts(t, client.New(conn), 100, 16)
	d.cutPower(p)
	p.start()
	kept := accountsIn(readLog(t, conn))
	lost := 0
	for account := range told {
		if !kept[account] {
			lost++
		}
	}
	t.Logf("%d of %d acknowledged commands were lost", lost, len(told))
	if lost == 0 {
		t.Error("a power cut lost nothing of what was never synced: the method shows nothing")
	}
	conn.Close()
	p.kill()
}

// What kill -9 leaves in the page cache reads like what is on the disk. A server that
// finds it and serves it must not lose it to a power cut afterwards. To have more of it
// than the moment between a write and its sync leaves, it is written lazily here.
func TestServedAfterKillNineSurvivesPowerCut(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	p := newProgram(t, filepath.Join(d.mount, "data"), "--unsafe-lazy-sync")
	p.start()
	conn := connect(t, p.child)
	// Several blocks of the log: a start syncs the newest by appending to it.
	told := openAccounts(t, client.New(conn), 2_000, 16<<10)
	p.kill()
	p.flags = nil
	p.start()
	if served := accountsIn(readLog(t, conn)); len(served) != len(told) {
		t.Fatalf("kill -9 lost %d of %d accounts", len(told)-len(served), len(told))
	}
	d.cutPower(p)
	p.start()
	kept := accountsIn(readLog(t, conn))
	for account := range told {
		if !kept[account] {
			t.Errorf("%s was served after kill -9 and lost to a power cut", account)
		}
	}
	conn.Close()
	p.kill()
}

// openAccounts opens n accounts with so many bytes of metadata each, and returns those
// that were acknowledged.
func openAccounts(t *testing.T, c *client.Client, n, metadata int) map[string]bool {
	t.Helper()
	const together = 16
	filling := events.Object(fmt.Sprintf(`{"filling":%q}`, strings.Repeat("x", metadata-14)))
	var open sync.WaitGroup
	for worker := range together {
		open.Go(func() {
			for i := worker; i < n; i += together {
				if _, err := c.OpenAccount(t.Context(), fmt.Sprintf("account-%d", i), ledger.OpenAccount{Metadata: filling}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	open.Wait()
	told := map[string]bool{}
	for i := range n {
		told[fmt.Sprintf("account-%d", i)] = true
	}
	return told
}

// accountsIn is the accounts that the log opened.
func accountsIn(commits []*store.Commit) map[string]bool {
	opened := map[string]bool{}
	for _, c := range commits {
		for _, e := range c.Entries {
			if e.Command == "account.open" {
				opened[e.Account] = true
			}
		}
	}
	return opened
}
