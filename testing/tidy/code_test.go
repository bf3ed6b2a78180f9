package tidy

import (
	"fmt"
	"go/ast"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	maxFileLines     = 500
	maxFunctionLines = 70
	maxMainLines     = 60 // of cmd/keyledger/main.go
)

// codeRules is what is not written here. find returns the breaches in one Go file.
var codeRules = []struct {
	name, why string
	find      func(*source) []finding
}{
	{"short files", "a file is read whole", longFiles},
	{"short functions", "a function is seen whole", longFunctions},
	{"a small main", "main only starts a verb", longMain},
	{"no sleeping tests", "a test waits for what it wants or holds the clock (testing/synctest)", sleepingTests},
	{"reasons for skipping", "a test that is skipped without a word is forgotten", silentSkips},
	{"no global logger", "a logger is passed in, so that who starts the program owns its output", globalLoggers},
	{"no mocks", "the in-memory log with its fault hook is the only double; all else is real", mocks},
	{"no layers", "a package is named after what it holds, not after where it lies", layerNames},
	{"pure rules", "ledger has no context, clock, I/O or randomness: the same log gives the same state", impureRules},
	{"documented names", "what others may use says what it is", undocumented},
}

// TestCode holds every Go file against every rule.
func TestCode(t *testing.T) {
	for _, rule := range codeRules {
		t.Run(rule.name, func(t *testing.T) {
			for _, s := range sources(t) {
				for _, f := range rule.find(s) {
					t.Errorf("%s:%d: %s (%s)", s.path, f.line, f.text, rule.why)
				}
			}
		})
	}
}

func longFiles(s *source) []finding {
	if n := strings.Count(s.text, "\n"); n > maxFileLines {
		return []finding{{maxFileLines + 1, fmt.Sprintf("%d lines, at most %d", n, maxFileLines)}}
	}
	return nil
}

func longFunctions(s *source) []finding {
	var found []finding
	ast.Inspect(s.file, func(node ast.Node) bool {
		f, ok := node.(*ast.FuncDecl)
		if !ok {
			return true
		}
		if n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1; n > maxFunctionLines {
			found = append(found, s.at(f, fmt.Sprintf("%s has %d lines, at most %d", f.Name.Name, n, maxFunctionLines)))
		}
		return false
	})
	return found
}

func longMain(s *source) []finding {
	if n := strings.Count(s.text, "\n"); s.path == "cmd/keyledger/main.go" && n > maxMainLines {
		return []finding{{maxMainLines + 1, fmt.Sprintf("%d lines, at most %d", n, maxMainLines)}}
	}
	return nil
}

func sleepingTests(s *source) []finding {
	if !s.test {
		return nil
	}
	return uses(s, "time", "Sleep")
}

func silentSkips(s *source) []finding {
	var found []finding
	ast.Inspect(s.file, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, method.Sel.Name) && len(call.Args) == 0 {
			found = append(found, s.at(call, method.Sel.Name+" without a reason"))
		}
		return true
	})
	return found
}

func globalLoggers(s *source) []finding {
	return slices.Concat(
		uses(s, "log/slog", "Debug", "DebugContext", "Info", "InfoContext", "Warn", "WarnContext", "Error", "ErrorContext",
			"Log", "LogAttrs", "With", "Default", "SetDefault", "SetLogLoggerLevel"),
		uses(s, "log", "Print", "Printf", "Println", "Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Panicln", "Default", "SetOutput"),
	)
}

func mocks(s *source) []finding {
	var found []finding
	suspect := func(node ast.Node, name string) {
		if strings.Contains(strings.ToLower(name), "mock") {
			found = append(found, s.at(node, name))
		}
	}
	suspect(s.file.Name, s.path)
	for _, spec := range s.file.Imports {
		suspect(spec, spec.Path.Value)
	}
	for _, decl := range s.file.Decls {
		if s.folder == "testing/tidy" {
			break // where the word is the rule's own
		}
		for _, name := range declared(decl) {
			suspect(name, name.Name)
		}
	}
	return found
}

func layerNames(s *source) []finding {
	for _, name := range append(strings.Split(s.folder, "/"), s.file.Name.Name) {
		if slices.Contains([]string{"util", "utils", "common", "models", "pkg"}, name) {
			return []finding{s.at(s.file.Name, "a package called "+name)}
		}
	}
	return nil
}

func impureRules(s *source) []finding {
	if s.folder != "ledger" || s.test {
		return nil
	}
	var found []finding
	for _, spec := range s.file.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err == nil && slices.Contains([]string{
			"bufio", "context", "crypto/rand", "io", "io/fs", "log", "log/slog", "math/rand", "math/rand/v2",
			"net", "net/http", "os", "os/exec", "runtime", "sync", "sync/atomic", "syscall", "unsafe",
		}, name) {
			found = append(found, s.at(spec, "imports "+name))
		}
	}
	return append(found, uses(s, "time", "Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep", "Local")...)
}

// undocumented finds exported names without a comment: functions, types and methods of
// exported types each have their own; a group of constants or variables may share one.
func undocumented(s *source) []finding {
	if s.test {
		return nil
	}
	var found []finding
	for _, decl := range s.file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Doc == nil && d.Name.IsExported() && receiverExported(d) {
				found = append(found, s.at(d, d.Name.Name+" has no comment"))
			}
		case *ast.GenDecl:
			found = append(found, undocumentedSpecs(s, d)...)
		}
	}
	return found
}

func undocumentedSpecs(s *source, d *ast.GenDecl) []finding {
	var found []finding
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() && spec.Doc == nil && (d.Doc == nil || d.Lparen.IsValid()) {
				found = append(found, s.at(spec, spec.Name.Name+" has no comment"))
			}
		case *ast.ValueSpec:
			for _, name := range spec.Names {
				if name.IsExported() && spec.Doc == nil && spec.Comment == nil && d.Doc == nil {
					found = append(found, s.at(name, name.Name+" has no comment"))
				}
			}
		}
	}
	return found
}

func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	exported := true
	ast.Inspect(d.Recv.List[0].Type, func(node ast.Node) bool {
		if name, ok := node.(*ast.Ident); ok {
			exported = name.IsExported()
			return false
		}
		_, generic := node.(*ast.IndexExpr)
		_, pointer := node.(*ast.StarExpr)
		return generic || pointer
	})
	return exported
}

// declared is the names a declaration makes.
func declared(decl ast.Decl) []*ast.Ident {
	var names []*ast.Ident
	switch d := decl.(type) {
	case *ast.FuncDecl:
		names = append(names, d.Name)
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				names = append(names, spec.Name)
			case *ast.ValueSpec:
				names = append(names, spec.Names...)
			}
		}
	}
	return names
}

// uses finds where a file names one of a package's functions, whatever the file calls
// the package.
func uses(s *source, imported string, functions ...string) []finding {
	local := ""
	for _, spec := range s.file.Imports {
		if spec.Path.Value == strconv.Quote(imported) {
			local = imported[strings.LastIndex(imported, "/")+1:]
			if spec.Name != nil {
				local = spec.Name.Name
			}
		}
	}
	var found []finding
	ast.Inspect(s.file, func(node ast.Node) bool {
		selector, ok := node.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := selector.X.(*ast.Ident); ok && local != "" && x.Name == local && slices.Contains(functions, selector.Sel.Name) {
			found = append(found, s.at(selector, imported+"."+selector.Sel.Name))
		}
		return true
	})
	return found
}
