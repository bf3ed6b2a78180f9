package tidy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// policy says who may import whom. It points one way:
//
//	cmd → ledger/server → {ledger/service, ledger/writer, ledger/access, projections, webhooks} → events/store → events ← ledger
//
// A folder that is not in it may not hold a package. The rules are for what ships;
// tests may import what they need.
var policy = []struct {
	folder string
	ours   []string // packages of this module it may import
	others []string // other modules it may import; nil: any
	why    string
}{
	{"events", nil, nil,
		"events is the vocabulary, a leaf: it imports nothing of the module"},
	{"events/store", []string{"events"}, nil,
		"the log knows what it stores and nobody who uses it"},
	{"events/store/proof", []string{"events", "events/store"}, []string{"golang.org/x/mod"},
		"a proof is checked by those who trust neither server nor streams: hashes, signatures, and the commit's own form"},
	{"ledger", []string{"events"}, []string{"github.com/oklog/ulid/v2"},
		"the rules are pure: events, ids and the standard library, so that a replay needs nothing else"},
	{"ledger/access", []string{"events", "events/store"}, nil,
		"the access log counts what it is told of; neither the rules nor the writer know it"},
	{"ledger/writer", []string{"ledger", "events", "events/store"}, nil,
		"the writer decides and appends; what is derived from the log comes behind it"},
	{"ledger/service", []string{"ledger/writer", "ledger", "events", "events/store"}, nil,
		"the service asks the writer; queries are handed to it by the server"},
	{"ledger/client", []string{"ledger", "events", "events/store"}, []string{"github.com/nats-io/nats.go", "github.com/oklog/ulid/v2", "github.com/go-json-experiment/json"},
		"the client goes into other people's programs: the wire contract (command bodies are the rules' own), nats.go, and what events brings along"},
	{"ledger/server", []string{"ledger/service", "ledger/access", "ledger/writer", "projections", "projections/archive", "webhooks", "ledger", "events", "events/store", "events/store/proof"}, nil,
		"the server puts the parts together; nothing but the command line stands above it"},
	{"projections", []string{"events", "events/store", "events/store/proof"}, nil,
		"a view is a fold of events: it never knows the rules, nor webhooks"},
	{"projections/archive", []string{"events", "events/store"}, nil,
		"what grows with the log is a fold of events too, in files and not in memory"},
	{"webhooks", []string{"events", "events/store"}, nil,
		"delivery reads the log: it never knows the rules, nor views"},
	{"webhooks/verify", nil, []string{},
		"it goes into receivers' programs: the standard library alone, and nothing of ours"},
	{"cmd/keyledger", []string{"cmd/keyledger/load", "ledger/server", "ledger/client", "ledger", "events", "events/store", "events/store/proof", "testing/receiver", "webhooks", "webhooks/verify"}, nil,
		"the command line starts a server or is a client like any other; the demo runs the receiver, webhook listen is one, and pull reads the feed as deliveries are matched"},
	{"cmd/keyledger/load", nil, []string{"github.com/nats-io/nats.go", "github.com/oklog/ulid/v2", "github.com/HdrHistogram/hdrhistogram-go", "golang.org/x/sync"},
		"the load is a client that shares no code with the server it measures"},

	{"testing/receiver", nil, nil,
		"the receiver stands for a customer's program: it shares no code with the sender"},
	{"testing/spec", []string{"ledger", "events"}, nil,
		"given, when, then: the rules alone, without a log"},
	{"testing/ledgertest", []string{"ledger/server", "ledger/client", "events", "events/store"}, nil,
		"the harness runs what the command line runs"},
	{"testing/faults", []string{"ledger/server", "ledger/client", "events", "events/store", "testing/receiver"}, nil,
		"faults happen to what the command line runs"},
	{"testing/faults/mutants", nil, nil,
		"a mutant is the code with a text replaced: it is read, not imported"},
	{"testing/bench", []string{"cmd/keyledger/load", "ledger/service", "ledger/writer", "projections", "webhooks", "ledger", "events", "events/store"}, nil,
		"a benchmark loads the program as a client; beside it, parts of it run alone, for comparison"},
	{"testing/tidy", []string{"events"}, nil,
		"the rules of the house read the repository, not its code"},
}

// TestImports holds the table against what ships.
func TestImports(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, f := range forbiddenImports(s) {
			t.Errorf("%s:%d: %s", s.path, f.line, f.text)
		}
	}
}

// TestPackagesStandInTheTable: a new package is a decision, and one line of the table.
func TestPackagesStandInTheTable(t *testing.T) {
	found := map[string]bool{}
	for _, s := range sources(t) {
		if !found[s.folder] && ruleOf(s.folder) < 0 {
			t.Errorf("%s: no line of the import table allows a package there", s.folder)
		}
		found[s.folder] = true
	}
	for _, rule := range policy {
		if !found[rule.folder] {
			t.Errorf("%s stands in the import table and holds no package", rule.folder)
		}
	}
}

func ruleOf(folder string) int {
	for i := range policy {
		if policy[i].folder == folder {
			return i
		}
	}
	return -1
}

// forbiddenImports finds what the table does not allow a file that ships.
func forbiddenImports(s *source) []finding {
	i := ruleOf(s.folder)
	if i < 0 {
		return nil
	}
	rule := policy[i]
	var found []finding
	for _, spec := range s.file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		ours, inModule := strings.CutPrefix(imported, module+"/")
		allowed := true
		switch {
		case inModule:
			allowed = slices.Contains(rule.ours, ours)
		case strings.Contains(strings.Split(imported, "/")[0], "."): // not the standard library
			allowed = rule.others == nil || slices.ContainsFunc(rule.others, func(other string) bool {
				return imported == other || strings.HasPrefix(imported, other+"/")
			})
		}
		if !allowed {
			found = append(found, s.at(spec, fmt.Sprintf("%s must not import %s: %s", rule.folder, imported, rule.why)))
		}
	}
	return found
}

// TestImportTableHolds shows that the table can say no.
func TestImportTableHolds(t *testing.T) {
	for _, test := range []struct {
		file, imports string
		allowed       bool
	}{
		{"cmd/keyledger/x.go", module + "/ledger/server", true},
		{"cmd/keyledger/x.go", module + "/testing/receiver", true},
		{"cmd/keyledger/x.go", module + "/testing/ledgertest", false},
		{"cmd/keyledger/x.go", module + "/ledger/writer", false},
		{"cmd/keyledger/x.go", module + "/projections", false},
		{"cmd/keyledger/load/x.go", module + "/ledger/client", false},
		{"ledger/client/x.go", module + "/cmd/keyledger/load", false},
		{"testing/bench/x.go", module + "/ledger/server", false},
		{"ledger/server/x.go", module + "/projections", true},
		{"ledger/server/x.go", module + "/testing/receiver", false},
		{"ledger/service/x.go", module + "/ledger/writer", true},
		{"ledger/writer/x.go", module + "/ledger/service", false},
		{"ledger/writer/x.go", module + "/projections", false},
		{"ledger/client/x.go", module + "/ledger", true},
		{"ledger/client/x.go", module + "/ledger/service", false},
		{"ledger/client/x.go", "github.com/nats-io/nats.go/jetstream", true},
		{"ledger/client/x.go", "github.com/nats-io/nats-server/v2/server", false},
		{"ledger/x.go", module + "/events", true},
		{"ledger/x.go", module + "/events/store", false},
		{"ledger/x.go", "github.com/oklog/ulid/v2", true},
		{"ledger/x.go", "github.com/nats-io/nats.go", false},
		{"ledger/x.go", "strings", true},
		{"projections/x.go", module + "/ledger", false},
		{"projections/x.go", module + "/webhooks", false},
		{"webhooks/x.go", module + "/ledger", false},
		{"webhooks/x.go", module + "/projections", false},
		{"webhooks/verify/x.go", "crypto/ed25519", true},
		{"webhooks/verify/x.go", module + "/webhooks", false},
		{"webhooks/verify/x.go", "github.com/oklog/ulid/v2", false},
		{"events/store/x.go", module + "/events", true},
		{"events/store/x.go", module + "/ledger", false},
		{"events/x.go", module + "/events/store", false},
		{"testing/receiver/x.go", module + "/webhooks", false},
	} {
		s, err := parse(test.file, fmt.Sprintf("package x\nimport _ %q\n", test.imports))
		if err != nil {
			t.Fatal(err)
		}
		if got := len(forbiddenImports(s)) == 0; got != test.allowed {
			t.Errorf("%s imports %s: allowed %t, want %t", test.file, test.imports, got, test.allowed)
		}
	}
}
