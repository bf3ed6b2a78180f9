package faults

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/time/rate"

	"github.com/keyledger/keyledger/ledger"
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
	l := &load{t: t, within: 500 * time.Millisecond, every: 300, pace: rate.NewLimiter(2000, 64), progress: make(chan struct{}, 1), answers: map[ulid.ULID]*ledger.Answer{}}
	for i := range killAccounts {
		l.keys = append(l.keys, prepare(t, c, hooks, fmt.Sprintf("account-%d", i)))
	}
	ctx, stop := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	for n := range killClients {
		clients.Go(func() { l.run(ctx, c, n) })
	}
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
	clients.Wait()
	t.Logf("%d answers", l.answered.Load())
	commits := readLog(t, conn)
	l.checkAnswers(commits)
	checkBalances(t, c, commits)
	checkFeed(t, conn, commits)
	checkHooks(t, hooks, commits)
}
