package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// checkRecovered asserts that JetStream has every stream whose messages lie under
// storeDir. It passes over a stream whose metadata is damaged, with no more than a
// warning (nats-server, jetstream.go, EnableJetStream), and creating it again would
// begin an empty one in its place. A log must not start over like that.
//
// A stream's folder without messages is what a stop in the middle of its creation
// leaves: it is created again.
func checkRecovered(nc *nats.Conn, storeDir string) error {
	dir := filepath.Join(storeDir, natsserver.JetStreamStoreDir, natsAccountStore, "streams")
	folders, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("check streams: %w", err)
	}
	recovered, err := streamNames(nc)
	if err != nil {
		return fmt.Errorf("check streams: %w", err)
	}
	for _, folder := range folders {
		name := folder.Name()
		if recovered[name] || strings.HasPrefix(name, ".") { // a dot: being deleted
			continue
		}
		held, err := holdsMessages(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("check stream %s: %w", name, err)
		}
		if held {
			return fmt.Errorf("stream %s in %s holds messages but could not be recovered; the warning before says why: "+
				"restore the folder from a backup, or, if it is not a log (KEYLEDGER_LOG_…), move it away and it is derived again", name, dir)
		}
	}
	return nil
}

func streamNames(nc *nats.Conn) (map[string]bool, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	names := make(map[string]bool)
	list := js.StreamNames(ctx)
	for name := range list.Name() {
		names[name] = true
	}
	return names, list.Err()
}

// holdsMessages reports whether a stream's folder has a message block with anything in it.
func holdsMessages(folder string) (bool, error) {
	dir := filepath.Join(folder, "msgs")
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, file := range files {
		info, err := file.Info()
		if err != nil {
			return false, err
		}
		if strings.HasSuffix(file.Name(), ".blk") && info.Size() > 0 {
			return true, nil
		}
	}
	return false, nil
}
