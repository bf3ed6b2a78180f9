package writer

import (
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"
)

const (
	// maxUnverified is how many requests may wait for their signatures to be verified: half a
	// second's work of one core. Those of one account are at most half of them.
	maxUnverified = 8192
	// verifyBatch is how many are taken at once. None of them goes on before all are done, so
	// that a lane keeps its order.
	verifyBatch = 64
)

// verifier verifies signatures beside the writer's work and hands the requests on, until
// ctx ends. It uses no more than half of the cores, so that a flood of signatures leaves
// the rest to everybody else.
func (w *Writer) verifier(ctx context.Context) error {
	var batch []*Request
	for {
		select {
		case <-w.unverified.signal:
		case <-ctx.Done():
			return nil
		}
		batch = w.unverified.take(verifyBatch, batch)
		var all errgroup.Group
		all.SetLimit(max(1, runtime.GOMAXPROCS(0)/2))
		for _, req := range batch {
			all.Go(func() error {
				w.directory.verify(req.Authorize)
				return nil
			})
		}
		_ = all.Wait() // none fails
		for _, req := range batch {
			w.enter(&w.intake, req)
		}
		clear(batch)
	}
}
