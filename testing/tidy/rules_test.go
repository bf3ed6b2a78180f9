package tidy

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// ruleCase is a file that breaks one rule on one line, or on none: 0.
type ruleCase struct {
	rule, path, text string
	line             int
}

var longFunction = "package x\n\nfunc f() {\n" + strings.Repeat("\n", maxFunctionLines-1) + "}\n"

var ruleCases = []ruleCase{
	{"short files", "a/x.go", "package x\n" + strings.Repeat("\n", maxFileLines), maxFileLines + 1},
	{"short files", "a/x.go", "package x\n" + strings.Repeat("\n", maxFileLines-1), 0},
	{"short functions", "a/x.go", longFunction, 3},
	{"short functions", "a/x.go", strings.Replace(longFunction, "\n\n}", "\n}", 1), 0},
	{"a small main", "cmd/keyledger/main.go", "package main\n" + strings.Repeat("\n", maxMainLines), maxMainLines + 1},
	{"a small main", "cmd/keyledger/serve.go", "package main\n" + strings.Repeat("\n", maxMainLines), 0},

	{"no sleeping tests", "a/x_test.go", "package x\nimport \"time\"\nvar f = time.Sleep\n", 3},
	{"no sleeping tests", "a/x_test.go", "package x\nimport clock \"time\"\nvar nap = clock.Sleep\n", 3},
	{"no sleeping tests", "a/x.go", "package x\nimport \"time\"\nvar f = time.Sleep\n", 0},
	{"reasons for skipping", "a/x_test.go", "package x\nfunc f(tb T) { tb.Skip() }\n", 2},
	{"reasons for skipping", "a/x_test.go", "package x\nfunc f(tb T) { tb.SkipNow() }\n", 2},
	{"reasons for skipping", "a/x_test.go", "package x\nfunc f(tb T) { tb.Skip(\"needs a disk\") }\n", 0},

	{"no global logger", "a/x.go", "package x\nimport \"log/slog\"\nfunc f() { slog.Info(\"\") }\n", 3},
	{"no global logger", "a/x.go", "package x\nimport \"log/slog\"\nvar l = slog.Default()\n", 3},
	{"no global logger", "a/x.go", "package x\nimport \"log\"\nfunc f() { log.Printf(\"\") }\n", 3},
	{"no global logger", "a/x.go", "package x\nimport \"log/slog\"\nfunc f(log *slog.Logger) { log.Info(\"\") }\n", 0},
	{"no mocks", "a/x_test.go", "package x\ntype clockMock struct{}\n", 2},
	{"no mocks", "a/x_test.go", "package x\nimport _ \"example.org/gomock\"\n", 2},
	{"no mocks", "a/mock_clock.go", "package x\n", 1},
	{"no layers", "a/util/x.go", "package x\n", 1},
	{"no layers", "a/x.go", "package common\n", 1},
	{"no layers", "a/x.go", "package x\n", 0},

	{"pure rules", "ledger/x.go", "package ledger\nimport \"context\"\n", 2},
	{"pure rules", "ledger/x.go", "package ledger\nimport \"crypto/rand\"\n", 2},
	{"pure rules", "ledger/x.go", "package ledger\nimport \"time\"\nvar t = time.Now()\n", 3},
	{"pure rules", "ledger/x_test.go", "package ledger\nimport \"os\"\n", 0},
	{"pure rules", "ledger/writer/x.go", "package writer\nimport \"os\"\n", 0},

	{"documented names", "a/x.go", "package x\nfunc F() {}\n", 2},
	{"documented names", "a/x.go", "package x\ntype T struct{}\n", 2},
	{"documented names", "a/x.go", "package x\n// T is.\ntype T[A any] struct{}\nfunc (t *T[A]) M() {}\n", 4},
	{"documented names", "a/x.go", "package x\nconst (\n\tc = 1\n\tC = 2\n)\n", 4},
	{"documented names", "a/x.go", "package x\n// Types.\ntype (\n\tT struct{}\n)\n", 4},
	{"documented names", "a/x.go", "package x\n// Both.\nconst (\n\tA = 1\n\tB = 2\n)\n// F does.\nfunc F() {}\ntype t struct{}\nfunc (t) M() {}\n", 0},
	{"documented names", "a/x_test.go", "package x\nfunc TestF() {}\n", 0},
}

// TestRulesCatch shows that each rule for code can say no, and where.
func TestRulesCatch(t *testing.T) {
	for _, test := range ruleCases {
		s, err := parse(test.path, test.text)
		if err != nil {
			t.Fatal(err)
		}
		var lines []int
		for _, rule := range codeRules {
			if rule.name == test.rule {
				for _, f := range rule.find(s) {
					lines = append(lines, f.line)
				}
			}
		}
		if test.line == 0 && len(lines) != 0 || test.line != 0 && !slices.Equal(lines, []int{test.line}) {
			t.Errorf("%s, in %s:\n%s\nfound on lines %d, want %d", test.rule, test.path, test.text, lines, test.line)
		}
	}
	for _, rule := range codeRules {
		if !slices.ContainsFunc(ruleCases, func(c ruleCase) bool { return c.rule == rule.name && c.line != 0 }) {
			t.Errorf("nothing shows that %q can say no", rule.name)
		}
	}
}

// TestTextRulesCatch shows the same of the rules for all files.
func TestTextRulesCatch(t *testing.T) {
	up := "/"
	for _, test := range []struct {
		rule, text string
		found      bool
	}{
		{"no unfinished work", "// TO" + "DO: later", true},
		{"no unfinished work", "FIX" + "ME", true},
		{"no unfinished work", "(XX" + "X)", true},
		{"no unfinished work", "a HA" + "CK", true},
		{"no unfinished work", "kl_test_XX" + "XX, hackney, to" + "do", false},
		{"no machine paths", "cd " + up + "home/ann/keyledger", true},
		{"no machine paths", "`" + up + "root/x`", true},
		{"no machine paths", "\"" + up + "work/main\"", true},
		{"no machine paths", "(" + up + "Users/ann)", true},
		{"no machine paths", `C:\Us` + `ers\ann`, true},
		{"no machine paths", "https://example.org/home/ann", false},
		{"no machine paths", "$HOME/data and ~/work/x and ./work/x", false},
		{"no machine paths", "/var/lib/keyledger", false},
	} {
		for _, rule := range textRules {
			if rule.name == test.rule && rule.pattern.MatchString(test.text) != test.found {
				t.Errorf("%s: %q found %t, want %t", test.rule, test.text, !test.found, test.found)
			}
		}
	}
}

func TestEventTable(t *testing.T) {
	text := "| type | why |\n|---|---|\n| no.type | |\n\ntext\n| type | meaning |\n|---|---|\n| a.b | x |\n| `c.d`, e.f | y |\n\n| g.h | |\n"
	if got, want := eventTable(text), []string{"a.b", "c.d", "e.f"}; !slices.Equal(got, want) {
		t.Errorf("the table has %q, want %q", got, want)
	}
}

func TestIgnoredNames(t *testing.T) {
	ignored, err := ignoredNames(fstest.MapFS{".gitignore": {Data: []byte("# built\nbin/\n/data/\n*.prof\n")}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"bin": true, "data": true, "cpu.prof": true, "testing/cpu.prof": true, "cmd": false, "events/data": false, "binary": false,
	} {
		if ignored(name) != want {
			t.Errorf("%s is ignored: %t, want %t", name, !want, want)
		}
	}
}
