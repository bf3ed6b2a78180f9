package server

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// syncTree calls sync for every regular file and directory under root, each
// directory after what it holds, root last. Links are followed, each target once,
// so that a store that was moved to another volume is covered too; a link that
// leads nowhere is an error, for it is a volume that is not there. Anything else
// (sockets, pipes, devices) is passed over.
func syncTree(root string, sync func(*os.File) error) error {
	return (&treeSync{sync: sync, seen: map[string]bool{root: true}}).visit(root)
}

// treeSync is one walk.
type treeSync struct {
	sync func(*os.File) error
	seen map[string]bool // link targets already visited: two links, or a loop
}

func (t *treeSync) visit(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := filepath.EvalSymlinks(path)
		if err != nil {
			return fmt.Errorf("follow link %s: %w", path, err)
		}
		if t.seen[target] {
			return nil
		}
		t.seen[target] = true
		return t.visit(target)
	case info.IsDir():
		entries, err := os.ReadDir(path)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := t.visit(filepath.Join(path, e.Name())); err != nil {
				return err
			}
		}
	case !info.Mode().IsRegular():
		return nil
	}
	return syncPath(path, t.sync)
}

// syncPath opens path and syncs it. Reading is enough for fsync (POSIX), and the
// only way to open a directory.
func syncPath(path string, sync func(*os.File) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := sync(f); err != nil {
		_ = f.Close() // the sync's own error says more
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return f.Close()
}
