package faults

import (
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/ledger/client"
	"github.com/keyledger/keyledger/testing/receiver"
)

// stoppedFor is longer than the server waits for an append (2 s) and clients for an
// answer, so that both count as unknown when the process goes on.
const stoppedFor = 2500 * time.Millisecond

// The process is stopped under load and goes on later: every answer is what the log says.
// Meanwhile a second one on the same directory is refused.
func TestStoppedAndContinued(t *testing.T) {
	t.Parallel()
	hooks, err := receiver.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer hooks.Close()
	p := newProgram(t, t.TempDir())
	p.start()
	conn := connect(t, p.child)
	c := client.New(conn)
	l := newLoad(t, c, hooks)
	l.within, l.every = 500*time.Millisecond, 300
	stop := l.start(c)
	for range rounds(t, 2) {
		<-l.progress
		over := time.After(stoppedFor)
		p.freeze()
		rival := newProgram(t, p.dir)
		if said := rival.refused(); !strings.Contains(said, "another keyledger is running on it") {
			t.Errorf("a second server on the directory said %q", said)
		}
		<-over
		p.thaw()
	}
	<-l.progress
	stop()
	t.Logf("%d answers", l.answered.Load())
	commits := readLog(t, conn)
	l.checkAnswers(commits)
	checkBalances(t, c, commits)
	checkFeed(t, conn, commits)
	checkHooks(t, hooks, commits)
}
