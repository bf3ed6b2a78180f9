package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// LogBytesMin is the smallest byte limit of a log.
const LogBytesMin = 1 << 20

// RecordBytes is what a message of so many bytes, appended behind sequence expected,
// takes of the log's byte limit: JetStream counts the record of its file store (length 4,
// sequence 8, time 8, subject length 2, header length 4, checksum 8) with the subject and
// the header that Append sets.
func RecordBytes(partition uint32, message int, expected uint64) int64 {
	const record = 4 + 8 + 8 + 2 + 4 + 8
	header := len("NATS/1.0\r\n"+jetstream.ExpectedLastSeqHeader+": "+"\r\n\r\n") + len(strconv.FormatUint(expected, 10))
	return int64(record + len(SubjectLog(partition)) + header + message)
}

// LimitLog gives the log, the first of configs, a byte limit and splits what budget
// leaves among the other streams as it was split before. The sum stays within budget.
func LimitLog(configs []jetstream.StreamConfig, budget, bytes int64) error {
	if bytes < LogBytesMin || bytes > budget/100*95 {
		return fmt.Errorf("a log of %d bytes: it must have at least %d and at most %d, 95 %% of what all streams may take on this volume", bytes, LogBytesMin, budget/100*95)
	}
	if bytes == configs[0].MaxBytes {
		return nil
	}
	before := budget - configs[0].MaxBytes
	configs[0].MaxBytes = bytes
	for i := range configs[1:] {
		c := &configs[i+1]
		c.MaxBytes = int64(float64(c.MaxBytes) / float64(before) * float64(budget-bytes))
		switch {
		case c.Name == StreamAccess:
			c.MaxBytes = min(c.MaxBytes, AccessBytesMax)
		case strings.HasPrefix(c.Name, streamCheckpointsPrefix):
			c.MaxBytes = min(c.MaxBytes, CheckpointsBytesMax)
		}
	}
	return nil
}

// FitStreams sets the byte limits of streams that exist to those of configs: those that
// shrink first, since the sum is bounded. It refuses to make the log smaller than what it
// holds; another stream that refuses new messages and holds too much keeps its limit.
func FitStreams(ctx context.Context, js jetstream.JetStream, configs []jetstream.StreamConfig) error {
	for _, grow := range []bool{false, true} {
		for _, config := range configs {
			if err := fitStream(ctx, js, config, grow); err != nil {
				return fmt.Errorf("set the limit of stream %s to %d bytes: %w", config.Name, config.MaxBytes, err)
			}
		}
	}
	return nil
}

func fitStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig, grow bool) error {
	stream, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil // it will be created with that limit
	}
	if err != nil {
		return err
	}
	info := stream.CachedInfo()
	if info.Config.MaxBytes == want.MaxBytes || (info.Config.MaxBytes < want.MaxBytes) != grow {
		return nil
	}
	if int64(info.State.Bytes) > want.MaxBytes { // nothing that is there shall go
		if want.DenyPurge {
			return fmt.Errorf("it holds %d bytes", info.State.Bytes)
		}
		return nil
	}
	config := info.Config
	config.MaxBytes = want.MaxBytes
	_, err = js.UpdateStream(ctx, config)
	return err
}
