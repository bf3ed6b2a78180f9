package mutants

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// listed is a package as go list tells it.
type listed struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
}

// packages lists those that mutants change and all that they import, with where the compiler
// has put what each exports.
func packages(t *testing.T) (byDir map[string]listed, exports map[string]string) {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles"}
	for _, m := range table {
		for _, e := range m.edits {
			if dir := "./" + filepath.ToSlash(filepath.Dir(e.file)); !slices.Contains(args, dir) {
				args = append(args, dir)
			}
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.String())
	}
	byDir, exports = map[string]listed{}, map[string]string{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return byDir, exports
		} else if err != nil {
			t.Fatal(err)
		}
		byDir[p.Dir], exports[p.ImportPath] = p, p.Export
	}
}

// Each mutant still builds. The types of the packages that it changes are checked, as the
// compiler would, without compiling: 30 ms each.
func TestEveryMutantBuilds(t *testing.T) {
	byDir, exports := packages(t)
	files := token.NewFileSet()
	imports := importer.ForCompiler(files, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("go list has no %s", path)
		}
		return os.Open(exports[path])
	})
	base, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	builds := func(m *mutant) error {
		changed, err := m.apply()
		if err != nil {
			return nil // TestEveryMutantApplies says so
		}
		dirs := map[string]bool{}
		for name := range changed {
			dirs[filepath.Dir(name)] = true
		}
		for dir := range dirs {
			if err := typed(files, imports, byDir[filepath.Join(base, dir)], base, changed); err != nil {
				return err
			}
		}
		return nil
	}
	for _, m := range table {
		if err := builds(&m); err != nil {
			t.Errorf("without %s: %v", m.without, err)
		}
	}
	for what, broken := range map[string]edit{
		"an import that is not used": {storage, "	\"errors\"\n", "	\"errors\"\n	\"io\"\n"},
		"another type":               {storage, "return min(reserveBytes, limit/10)", "return nil"},
	} {
		if err := builds(&mutant{edits: []edit{broken}}); err == nil {
			t.Errorf("with %s it builds", what)
		}
	}
}

// typed checks the types of a package of which some files are changed.
func typed(files *token.FileSet, imports types.Importer, p listed, base string, changed map[string]string) error {
	var list []*ast.File
	left := len(changed)
	for _, name := range p.GoFiles {
		path := filepath.Join(p.Dir, name)
		var source any // nil: what is on the disk
		if text, ok := changed[filepath.ToSlash(strings.TrimPrefix(path, base+string(filepath.Separator)))]; ok {
			source = text
			left--
		}
		f, err := parser.ParseFile(files, path, source, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		list = append(list, f)
	}
	if left == len(changed) {
		return fmt.Errorf("%s has none of the changed files", p.Dir)
	}
	config := types.Config{Importer: imports}
	_, err := config.Check(p.ImportPath, files, list, nil)
	return err
}
