package main

import (
	"os"
	"runtime"
	"runtime/debug"
)

// gcPercent is how much the heap may grow between collections, in percent of what is
// live. Requests leave much garbage and little that lives: at Go's default of 100 a third
// of the decisions a second is lost to collecting it.
const gcPercent = 400

// tuneRuntime sets what suits a server that waits for the disk: more running threads than
// cores, because a goroutine that comes back from an fsync otherwise queues behind all
// the others; and memory. GOMAXPROCS, where set, is the operator's word.
func tuneRuntime() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(2 * runtime.NumCPU())
	}
	tuneMemory()
}

// tuneMemory trades memory for decisions a second, as long as there is memory: near half
// of the machine's the collector works harder again. GOGC and GOMEMLIMIT, where set, are
// the operator's word.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if total := totalMemory(); os.Getenv("GOMEMLIMIT") == "" && total > 0 {
		debug.SetMemoryLimit(total / 2)
	}
}

// receiptMemory is what command ids may take of a machine's memory: an eighth, of 24 GiB
// that is 53 million ids. 0 where the machine does not say: the server's default.
func receiptMemory(total int64) int64 { return total / 8 }
