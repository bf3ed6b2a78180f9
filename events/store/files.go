package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A record in a message block of NATS' file store (nats-server, filestore.go,
// writeMsgRecordLocked), little endian: length of it all (4 bytes, the highest bit set
// when there are headers), sequence (8), time (8), length of the subject (2), subject,
// length of the headers (4, with headers only), headers, data, checksum (8).
const (
	recordStart    = 4 + 8 + 8 + 2
	recordChecksum = 8
	recordHeaders  = 1 << 31
	// recordErased and recordTombstone mark a sequence whose record holds no message.
	recordErased    = 1 << 63
	recordTombstone = 1 << 62
)

// BlockFiles returns the message blocks of a stream, oldest first. streams is the folder
// of all streams. A stream that is not there has none.
func BlockFiles(streams, stream string) ([]string, error) {
	const suffix = ".blk"
	dir := filepath.Join(streams, stream, "msgs")
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list blocks: %w", err)
	}
	var numbers []int
	for _, file := range files {
		if n, err := strconv.Atoi(strings.TrimSuffix(file.Name(), suffix)); err == nil && strings.HasSuffix(file.Name(), suffix) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	paths := make([]string, len(numbers))
	for i, n := range numbers {
		paths[i] = filepath.Join(dir, strconv.Itoa(n)+suffix)
	}
	return paths, nil
}

// CheckFiles checks a whole log as it lies on the disk, from chain on, and calls f for
// every commit. It only reads. NATS must not run on the files.
//
// It returns a *DamageError at the first bad commit. Bytes at the very end that are not a
// commit, with no commit behind them, are a write that was cut short: how many they are
// is returned. That they were never acknowledged is for the witnesses to say.
func CheckFiles(blocks []string, chain *Chain, f func(*Commit) error) (torn int, err error) {
	for i, path := range blocks {
		data, err := os.ReadFile(path)
		if err != nil {
			return 0, fmt.Errorf("check the log's files: %w", err)
		}
		torn, err = checkBlock(data, chain, i == len(blocks)-1, f)
		if err != nil {
			return 0, err
		}
	}
	return torn, nil
}

// CheckNewestFile checks the newest of a log's blocks. NATS, when it opens a block with a
// bad record, cuts off that record and all behind it. So this has to run before: where
// commits stand behind a bad one, it returns a *DamageError and they are still there.
func CheckNewestFile(blocks []string, partition uint32) error {
	if len(blocks) == 0 {
		return nil
	}
	newest := blocks[len(blocks)-1:]
	data, err := os.ReadFile(newest[0])
	if err != nil {
		return fmt.Errorf("check the log's newest file: %w", err)
	}
	chain := Chain{Partition: partition}
	// Where the block's first commit cannot be read, only all before it tell its place.
	if record, ok := recordAt(data); ok {
		if first, err := Decode(record.data); err == nil {
			chain.Sequence, chain.Hash = first.PrevSequence, first.PrevHash
			chain.Ordinal, chain.Epoch, chain.Time = first.Ordinal, first.Epoch, first.Time
			blocks = newest
		}
	}
	_, err = CheckFiles(blocks, &chain, func(*Commit) error { return nil })
	return err
}

// checkBlock checks one block; last: no other follows it.
func checkBlock(data []byte, chain *Chain, last bool, f func(*Commit) error) (torn int, err error) {
	for len(data) > 0 {
		record, whole := recordAt(data)
		if whole && record.sequence&(recordErased|recordTombstone) != 0 {
			data = data[record.bytes:]
			continue
		}
		var commit *Commit
		if whole {
			commit, err = chain.Check(record.sequence, record.data)
		} else {
			record.bytes = min(len(data), recordStart+len(SubjectLog(chain.Partition)))
			err = chain.damaged(chain.Sequence+1, "its record is not whole")
		}
		if err != nil {
			if last && !commitIn(data[record.bytes:], SubjectLog(chain.Partition)) {
				return len(data), newer(err)
			}
			return 0, err
		}
		if err := f(commit); err != nil {
			return 0, err
		}
		data = data[record.bytes:]
	}
	return 0, nil
}

// ReadRecords calls f for every message in a stream's blocks as they lie on the disk. Bytes
// at the very end that are no record are a write that was cut short; anywhere else they are
// an error. What a message says is for f to check. NATS must not run on the files.
func ReadRecords(blocks []string, f func(sequence uint64, data []byte) error) error {
	for i, path := range blocks {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read a stream's files: %w", err)
		}
		for len(data) > 0 {
			record, whole := recordAt(data)
			if !whole && i == len(blocks)-1 {
				return nil
			}
			if !whole {
				return fmt.Errorf("read a stream's files: %s has a record that is not whole", path)
			}
			if record.sequence&(recordErased|recordTombstone) == 0 {
				if err := f(record.sequence, record.data); err != nil {
					return err
				}
			}
			data = data[record.bytes:]
		}
	}
	return nil
}

// newer is err if it says that a newer keyledger wrote the commit: that is no torn write.
func newer(err error) error {
	var damage *DamageError
	if errors.As(err, &damage) && damage.Newer {
		return err
	}
	return nil
}

// commitIn looks for a whole commit in bytes that begin anywhere.
func commitIn(data []byte, subject string) bool {
	for {
		i := bytes.Index(data, []byte(subject))
		if i < 0 {
			return false
		}
		if i >= recordStart {
			if record, ok := recordAt(data[i-recordStart:]); ok {
				if _, err := Decode(record.data); err == nil {
					return true
				}
			}
		}
		data = data[i+len(subject):]
	}
}

// record is one record of a block.
type record struct {
	bytes    int // all of it
	sequence uint64
	data     []byte
}

// recordAt reads the record that b begins with, false where there is no whole one.
func recordAt(b []byte) (record, bool) {
	if len(b) < recordStart+recordChecksum {
		return record{}, false
	}
	length := binary.LittleEndian.Uint32(b)
	size, start := int(length&^recordHeaders), recordStart+int(binary.LittleEndian.Uint16(b[20:]))
	if size > len(b) || start+recordChecksum > size {
		return record{}, false
	}
	if length&recordHeaders != 0 {
		if start+4+recordChecksum > size {
			return record{}, false
		}
		headers := int(binary.LittleEndian.Uint32(b[start:]))
		if headers > size-start-4-recordChecksum {
			return record{}, false
		}
		start += 4 + headers
	}
	return record{
		bytes: size, sequence: binary.LittleEndian.Uint64(b[4:]),
		data: b[start : size-recordChecksum],
	}, true
}
