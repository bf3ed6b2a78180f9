package store

import (
	"errors"
	"os"
)

// SyncDir makes the names in a directory last: a file that was made, renamed or removed in
// it stays so after a power cut.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
