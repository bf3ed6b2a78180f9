package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Retention of the derived streams.
const (
	FeedAge     = 90 * 24 * time.Hour
	AttemptsAge = 30 * 24 * time.Hour
	AccessAge   = 7 * 24 * time.Hour
)

// AccessBytesMax is the most bytes that the access log takes, however large the volume.
const AccessBytesMax = 1 << 30

// CheckpointsBytesMax is the most bytes that signed checkpoints take: about 500 each, so
// that one a minute is kept for a year.
const CheckpointsBytesMax = 256 << 20

// Streams returns the configuration of every stream of a partition, with budget, the
// bytes all of them may take together, split among them. The log never discards: it is
// full instead. Derived streams discard their oldest and use PersistMode async, so that
// they cost no fsync under SyncAlways (nats-server 2.12, R1 only); it cannot be changed
// after creation, and what a crash takes from their tails is derived again. A bucket is
// full rather than that it forgets.
func Streams(partition uint32, budget int64) []jetstream.StreamConfig {
	share := func(percent int64) int64 { return budget / 100 * percent }
	derived := jetstream.StreamConfig{
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Replicas: 1,
		Discard: jetstream.DiscardOld, PersistMode: jetstream.AsyncPersistMode, AllowDirect: true,
	}
	access := derived
	access.Name, access.Subjects = StreamAccess, []string{SubjectAccess + ">"}
	access.MaxAge, access.MaxBytes = AccessAge, min(share(2), AccessBytesMax)
	feed := derived
	feed.Name, feed.Subjects = StreamFeed(partition), []string{SubjectFeed(partition) + ">"}
	checkpoints := min(share(1), CheckpointsBytesMax)
	feed.MaxAge, feed.MaxBytes = FeedAge, share(20)-access.MaxBytes-checkpoints
	attempts := derived
	attempts.Name, attempts.Subjects = StreamAttempts, []string{SubjectAttempts + ">"}
	attempts.MaxAge, attempts.MaxBytes = AttemptsAge, share(10)
	keys, balances := bucket(derived, BucketKeys), bucket(derived, BucketBalances)
	keys.MaxBytes, balances.MaxBytes = share(4), share(4)
	snapshots := objects(derived, BucketSnapshots)
	snapshots.MaxBytes = share(5)
	return []jetstream.StreamConfig{
		{
			Name: StreamLog(partition), Subjects: []string{SubjectLog(partition)},
			Description: "keyledger commits: the truth",
			Storage:     jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Replicas: 1,
			Discard: jetstream.DiscardNew, MaxBytes: share(55), MaxMsgSize: MaxCommitBytes + 1024,
			DenyDelete: true, DenyPurge: true, AllowDirect: true,
		},
		{
			Name: StreamLanes(partition), Subjects: []string{SubjectLanes(partition)},
			Description: "keyledger webhook lanes: checkpoints",
			Storage:     jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Replicas: 1,
			Discard: jetstream.DiscardOld, MaxMsgs: 8, MaxBytes: share(2), AllowDirect: true,
		},
		{
			Name: StreamCheckpoints(partition), Subjects: []string{SubjectCheckpoints(partition)},
			Description: "keyledger signed checkpoints of the log",
			Storage:     jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Replicas: 1,
			Discard: jetstream.DiscardOld, MaxBytes: checkpoints, DenyDelete: true, AllowDirect: true,
		},
		feed, attempts, access, keys, balances, snapshots,
	}
}

// bucket is the stream of a key-value bucket (ADR-8), made by hand because the bucket
// API has no PersistMode.
func bucket(base jetstream.StreamConfig, name string) jetstream.StreamConfig {
	base.Name, base.Subjects = "KV_"+name, []string{"$KV." + name + ".>"}
	base.MaxMsgsPerSubject, base.AllowRollup, base.DenyDelete = 1, true, true
	base.Discard = jetstream.DiscardNew
	return base
}

// objects is the stream of an object store (nats.go, jetstream/object.go), made by hand
// for the same reason. It is full rather than that it drops the first chunks of an object.
func objects(base jetstream.StreamConfig, name string) jetstream.StreamConfig {
	base.Name, base.Subjects = "OBJ_"+name, []string{"$O." + name + ".C.>", "$O." + name + ".M.>"}
	base.AllowRollup, base.Discard = true, jetstream.DiscardNew
	return base
}

// CreateStreams creates the streams that are missing and leaves those that exist as an
// operator may have set them, except that a log that could lose or change what it holds
// is refused.
func CreateStreams(ctx context.Context, js jetstream.JetStream, configs []jetstream.StreamConfig) error {
	for _, config := range configs {
		stream, err := js.Stream(ctx, config.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			err = createStream(ctx, js, config, configs)
		}
		if err != nil {
			return fmt.Errorf("create stream %s: %w", config.Name, err)
		}
		if stream == nil || !config.DenyDelete || !config.DenyPurge {
			continue
		}
		if err := checkLogConfig(stream.CachedInfo().Config); err != nil {
			return err
		}
	}
	return nil
}

// createStream creates one that is missing. A ledger that was made before there was such
// a stream has given all its bytes to the others. Then the feed's limit is lowered to its
// share of today, if it holds no more than that.
func createStream(ctx context.Context, js jetstream.JetStream, config jetstream.StreamConfig, all []jetstream.StreamConfig) error {
	_, err := js.CreateStream(ctx, config)
	var api *jetstream.APIError
	if !errors.As(err, &api) || (api.ErrorCode != errCodeStorageExceeded && api.ErrorCode != errCodeInsufficientResources) {
		return err
	}
	for _, share := range all {
		if !strings.HasPrefix(share.Name, streamFeedPrefix) {
			continue
		}
		feed, lookErr := js.Stream(ctx, share.Name)
		if lookErr != nil {
			return err
		}
		now := feed.CachedInfo()
		if now.Config.MaxBytes <= share.MaxBytes || now.State.Bytes > uint64(share.MaxBytes) {
			return err
		}
		now.Config.MaxBytes = share.MaxBytes
		// If we stop right here, the next start creates the stream in the room there is.
		if _, err := js.UpdateStream(ctx, now.Config); err != nil {
			return fmt.Errorf("lower the limit of %s: %w", share.Name, err)
		}
		_, err = js.CreateStream(ctx, config)
		return err
	}
	return err
}

// checkLogConfig refuses a log stream whose settings break its promises.
func checkLogConfig(c jetstream.StreamConfig) error {
	switch {
	case !c.DenyDelete || !c.DenyPurge:
		return fmt.Errorf("stream %s allows messages to be deleted or purged: it must deny both", c.Name)
	case c.Retention != jetstream.LimitsPolicy || c.Discard != jetstream.DiscardNew ||
		c.MaxAge != 0 || c.MaxMsgs > 0 || c.MaxMsgsPerSubject > 0 || c.AllowMsgTTL:
		return fmt.Errorf("stream %s discards old messages: it must use limits with discard new, no age and no message TTL", c.Name)
	case c.PersistMode == jetstream.AsyncPersistMode || c.Storage != jetstream.FileStorage:
		return fmt.Errorf("stream %s is not written durably: it must use file storage and the default persist mode", c.Name)
	}
	return nil
}
