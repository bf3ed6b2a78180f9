package tidy

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events"
)

// Everything that stands at the top.
var (
	topFolders = []string{".ci", "cmd", "events", "ledger", "projections", "testing", "webhooks"}
	topFiles   = []string{
		".gitignore", "ARCHITECTURE.md", "BENCHMARKS.md", "GUIDE.md", "LICENSE", "Makefile", "README.md", "SECURITY.md", "go.mod", "go.sum",
	}
)

// TestTheTopIsFixed: these folders and files, all of them and nothing else, so that
// whoever comes finds things where they were.
func TestTheTopIsFixed(t *testing.T) {
	dir, err := root()
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := ignoredNames(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, entry := range entries {
		name := entry.Name()
		found[name] = true
		wanted := slices.Contains(topFiles, name)
		if entry.IsDir() {
			wanted = slices.Contains(topFolders, name)
		}
		if !wanted && name != ".git" && !ignored(name) {
			t.Errorf("%s does not belong at the top: find it a room, or change the house in ARCHITECTURE.md first", name)
		}
	}
	for _, name := range slices.Concat(topFolders, topFiles) {
		if !found[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

// TestPackagesSayWhatTheyAre: each package has a package comment.
func TestPackagesSayWhatTheyAre(t *testing.T) {
	said := map[string]bool{}
	for _, s := range sources(t) {
		if !s.test {
			said[s.folder] = said[s.folder] || s.file.Doc != nil
		}
	}
	for folder, ok := range said {
		if !ok {
			t.Errorf("%s has no package comment", folder)
		}
	}
}

// textRules is what is not written in any file. The patterns do not match themselves.
var textRules = []struct {
	name, why string
	pattern   *regexp.Regexp
}{
	{"no unfinished work", "what falls short is done, or said in the documents",
		regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)},
	{"no machine paths", "a path of one machine means nothing on another",
		regexp.MustCompile(`(^|[^A-Za-z0-9_.~$})-])/(home|root|work|workspace|Users)/[A-Za-z0-9._-]|[A-Z]:\\Users\\`)},
}

// TestTexts holds every file against every rule.
func TestTexts(t *testing.T) {
	for _, rule := range textRules {
		t.Run(rule.name, func(t *testing.T) {
			for name, text := range repository(t) {
				n := 0
				for line := range strings.Lines(text) {
					if n++; rule.pattern.MatchString(line) {
						t.Errorf("%s:%d: %s (%s)", name, n, rule.pattern.FindString(line), rule.why)
					}
				}
			}
		})
	}
}

const goldenFolder = "events/testdata/golden/"

// TestCatalogHasGoldenFiles: every type's stored and public form is held still by a file,
// and no file is left without its type.
func TestCatalogHasGoldenFiles(t *testing.T) {
	files := repository(t)
	for _, kind := range events.Catalog {
		for _, form := range []string{"hex", "json"} {
			name := fmt.Sprintf("%s%s.v%d.%s", goldenFolder, kind.Name, kind.Version, form)
			if files[name] == "" {
				t.Errorf("%s is missing: go test ./events -run TestGolden -update writes it", name)
			}
		}
	}
	for name := range files {
		base, ok := strings.CutPrefix(name, goldenFolder)
		if !ok {
			continue
		}
		if i := strings.Index(base, ".v"); i < 0 || events.Lookup(base[:i]) == nil {
			t.Errorf("%s has no line in the catalog: stored names are for ever", name)
		}
	}
}

// TestCatalogIsInTheArchitecture: ARCHITECTURE.md's table of events has every type, and
// no type that is not.
func TestCatalogIsInTheArchitecture(t *testing.T) {
	documented := eventTable(repository(t)["ARCHITECTURE.md"])
	for _, kind := range events.Catalog {
		if !slices.Contains(documented, kind.Name) {
			t.Errorf("%s does not stand in ARCHITECTURE.md's table of events", kind.Name)
		}
	}
	for _, name := range documented {
		if events.Lookup(name) == nil {
			t.Errorf("ARCHITECTURE.md's table of events has %s, the catalog has not", name)
		}
	}
}

// eventTable returns the types in the table headed "| type | meaning |". A row may name
// several.
func eventTable(text string) []string {
	var names []string
	inside := false
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 3 {
			inside = false
			continue
		}
		first, second := strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2])
		if !inside || strings.Trim(first, "-: ") == "" {
			inside = inside || first == "type" && second == "meaning"
			continue
		}
		for name := range strings.SplitSeq(first, ",") {
			names = append(names, strings.Trim(name, " `"))
		}
	}
	return names
}
