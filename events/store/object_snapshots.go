package store

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ObjectSnapshots keeps snapshots as objects of the bucket KEYLEDGER_SNAPSHOTS. It reads
// and writes the bucket's messages itself: the object store's own API must know all of an
// object before it begins, leaves the chunks of a write that was cut off behind for ever,
// and waits where the first chunk of an object is missing. Its readers, the NATS CLI
// among them, can read what is written here.
//
// Chunks are messages on $O.<bucket>.C.<id>. An object is there once its description is,
// one message on $O.<bucket>.M.<id in base64>.
type ObjectSnapshots struct {
	js        jetstream.JetStream
	stream    jetstream.Stream
	partition uint32
}

// snapshotPatience is how long a look-up may take. A disk that stalls is waited for: the
// alternative to a snapshot is a replay of the whole log.
const snapshotPatience = 30 * time.Second

const (
	objectChunks       = "$O." + BucketSnapshots + ".C."
	objectDescriptions = "$O." + BucketSnapshots + ".M."
)

// OpenSnapshots opens the bucket, which must be there, for the snapshots of a partition.
func OpenSnapshots(ctx context.Context, js jetstream.JetStream, partition uint32) (*ObjectSnapshots, error) {
	stream, err := js.Stream(ctx, "OBJ_"+BucketSnapshots)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", BucketSnapshots, err)
	}
	return &ObjectSnapshots{js: js, stream: stream, partition: partition}, nil
}

// Append implements Snapshots. The chunk may still be lost in a power cut, and the
// description after it may not: a reader must check that all is there.
func (o *ObjectSnapshots) Append(ctx context.Context, s *Snapshot, chunk []byte) error {
	if s.sum == nil {
		s.sum = sha256.New()
	}
	if _, err := o.js.PublishMsg(ctx, &nats.Msg{Subject: objectChunks + s.ID, Data: chunk}); err != nil {
		return fmt.Errorf("write a chunk of snapshot %s: %w", s.ID, appendError(err))
	}
	s.sum.Write(chunk)
	s.chunks++
	s.Bytes += int64(len(chunk))
	return nil
}

// Finish implements Snapshots.
func (o *ObjectSnapshots) Finish(ctx context.Context, s *Snapshot) error {
	metadata, err := s.describe()
	if err != nil {
		return err
	}
	info := jetstream.ObjectInfo{
		ObjectMeta: jetstream.ObjectMeta{
			Name: s.ID, Description: "keyledger state", Metadata: metadata,
			Opts: &jetstream.ObjectMetaOptions{},
		},
		Bucket: BucketSnapshots, NUID: s.ID, Size: uint64(s.Bytes), Chunks: uint32(s.chunks),
		Digest: jetstream.GetObjectDigestValue(s.sum),
	}
	data, err := json.Marshal(&info)
	if err != nil {
		return fmt.Errorf("describe snapshot %s: %w", s.ID, err)
	}
	if _, err := o.js.PublishMsg(ctx, &nats.Msg{Subject: descriptionOf(s.ID), Data: data}); err != nil {
		return fmt.Errorf("finish snapshot %s: %w", s.ID, appendError(err))
	}
	return nil
}

func descriptionOf(id string) string {
	return objectDescriptions + base64.URLEncoding.EncodeToString([]byte(id))
}

// describe puts s into an object's metadata. A description is believed without reading
// the object, so it has a checksum of its own.
func (s *Snapshot) describe() (map[string]string, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("describe snapshot %s: %w", s.ID, err)
	}
	return map[string]string{"snapshot": string(text), "sha256": checkOf(text)}, nil
}

func checkOf(text []byte) string { return Hash(sha256.Sum256(text)).String() }

// readDescription is the other way round.
func readDescription(id string, data []byte) Snapshot {
	var info jetstream.ObjectInfo
	if err := json.Unmarshal(data, &info); err != nil {
		return Snapshot{ID: id, Err: fmt.Errorf("its description is damaged: %w", err)}
	}
	text := []byte(info.Metadata["snapshot"])
	if info.Metadata["sha256"] != checkOf(text) {
		return Snapshot{ID: id, Err: errors.New("its description is damaged: the checksum is wrong")}
	}
	var s Snapshot
	if err := json.Unmarshal(text, &s); err != nil {
		return Snapshot{ID: id, Err: fmt.Errorf("its description is damaged: %w", err)}
	}
	if s.ID != id {
		return Snapshot{ID: id, Err: fmt.Errorf("its description is that of %s", s.ID)}
	}
	return s
}

// subjects returns the subjects of the bucket that have messages and belong to the
// partition: ids of finished snapshots, and of those that have chunks.
func (o *ObjectSnapshots) subjects(ctx context.Context) (finished, chunked []string, err error) {
	try, cancel := context.WithTimeout(ctx, snapshotPatience)
	defer cancel()
	info, err := o.stream.Info(try, jetstream.WithSubjectFilter("$O."+BucketSnapshots+".>"))
	if err != nil {
		return nil, nil, fmt.Errorf("list snapshots: %w", err)
	}
	for subject := range info.State.Subjects {
		if id, ok := strings.CutPrefix(subject, objectChunks); ok && o.mine(id) {
			chunked = append(chunked, id)
		}
		if name, ok := strings.CutPrefix(subject, objectDescriptions); ok {
			if id, err := base64.URLEncoding.DecodeString(name); err == nil && o.mine(string(id)) {
				finished = append(finished, string(id))
			}
		}
	}
	return finished, chunked, nil
}

func (o *ObjectSnapshots) mine(id string) bool {
	return strings.HasPrefix(id, snapshotPrefix(o.partition))
}

// List implements Snapshots.
func (o *ObjectSnapshots) List(ctx context.Context) ([]Snapshot, error) {
	finished, _, err := o.subjects(ctx)
	if err != nil {
		return nil, err
	}
	var list []Snapshot
	for _, id := range finished {
		try, cancel := context.WithTimeout(ctx, snapshotPatience)
		m, err := o.stream.GetLastMsgForSubject(try, descriptionOf(id))
		cancel()
		if errors.Is(err, jetstream.ErrMsgNotFound) { // deleted since, or damaged on the disk
			list = append(list, Snapshot{ID: id, Err: errors.New("its description cannot be read")})
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look up snapshot %s: %w", id, err)
		}
		list = append(list, readDescription(id, m.Data))
	}
	sortSnapshots(list)
	return list, nil
}

// Read implements Snapshots.
func (o *ObjectSnapshots) Read(ctx context.Context, id string, f func([]byte) error) error {
	for next := uint64(1); ; {
		try, cancel := context.WithTimeout(ctx, snapshotPatience)
		m, err := o.stream.GetMsg(try, next, jetstream.WithGetMsgSubject(objectChunks+id))
		cancel()
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read snapshot %s: %w", id, err)
		}
		if err := f(m.Data); err != nil {
			return err
		}
		next = m.Sequence + 1
	}
}

// Prune implements Snapshots. Descriptions go first: if we stop right there, chunks are
// left that no description knows, and the next Prune deletes them.
func (o *ObjectSnapshots) Prune(ctx context.Context, keep string) error {
	finished, chunked, err := o.subjects(ctx)
	if err != nil {
		return err
	}
	var gone []string
	for _, id := range finished {
		if id != keep {
			gone = append(gone, descriptionOf(id))
		}
	}
	for _, id := range chunked {
		if id != keep {
			gone = append(gone, objectChunks+id)
		}
	}
	for _, subject := range gone {
		if err := o.stream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
			return fmt.Errorf("delete an old snapshot: %w", err)
		}
	}
	return nil
}
