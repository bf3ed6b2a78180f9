package tidy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// module is the path that every package of ours begins with.
const module = "github.com/keyledger/keyledger"

// source is one Go file.
type source struct {
	path   string // from the module's root, with slashes
	folder string // "." for the root
	test   bool   // _test.go
	text   string
	file   *ast.File
	fset   *token.FileSet
}

// finding is one breach of a rule.
type finding struct {
	line int
	text string
}

// at makes a finding at a node.
func (s *source) at(node ast.Node, text string) finding {
	return finding{s.fset.Position(node.Pos()).Line, text}
}

// parse reads one Go file.
func parse(name, text string) (*source, error) {
	s := &source{
		path: name, folder: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), text: text, fset: token.NewFileSet(),
	}
	var err error
	s.file, err = parser.ParseFile(s.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	return s, err
}

// root is the folder of go.mod, upwards from here.
var root = sync.OnceValues(func() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err = os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			break
		}
		dir, err = up, nil
	}
	return "", err
})

// texts is every file of the repository that holds text, by its path. What .gitignore
// names at the top is not part of it.
var texts = sync.OnceValues(func() (map[string]string, error) {
	dir, err := root()
	if err != nil {
		return nil, err
	}
	tree := os.DirFS(dir)
	ignored, err := ignoredNames(tree)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	err = fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (name == ".git" || ignored(name)):
			return fs.SkipDir
		case !entry.Type().IsRegular() || ignored(name):
			return nil
		}
		content, err := fs.ReadFile(tree, name)
		if utf8.Valid(content) {
			files[name] = string(content)
		}
		return err
	})
	return files, err
})

// ignoredNames reads .gitignore, whose lines here are names and patterns of names.
func ignoredNames(tree fs.FS) (func(string) bool, error) {
	content, err := fs.ReadFile(tree, ".gitignore")
	if err != nil {
		return nil, err
	}
	var patterns []string
	for line := range strings.Lines(string(content)) {
		if line = strings.Trim(strings.TrimSpace(line), "/"); line != "" && line[0] != '#' {
			patterns = append(patterns, line)
		}
	}
	return func(name string) bool {
		return slices.ContainsFunc(patterns, func(pattern string) bool {
			whole, _ := path.Match(pattern, name)
			base, _ := path.Match(pattern, path.Base(name))
			return whole || base && strings.Contains(pattern, "*")
		})
	}, nil
}

// repository is every text file.
func repository(t *testing.T) map[string]string {
	t.Helper()
	files, err := texts()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var parsed = sync.OnceValues(func() ([]*source, error) {
	files, err := texts()
	if err != nil {
		return nil, err
	}
	var list []*source
	for name, text := range files {
		if path.Ext(name) != ".go" || strings.Contains(name, "testdata/") {
			continue
		}
		s, err := parse(name, text)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *source) int { return strings.Compare(a.path, b.path) })
	return list, nil
})

// sources is every Go file, in the order of their paths.
func sources(t *testing.T) []*source {
	t.Helper()
	list, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	return list
}
