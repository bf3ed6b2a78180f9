package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Annotations of a flag.
const (
	noteEnvironment = "keyledger-environment" // the variable that gives it
	noteDefault     = "keyledger-default"     // its default in words
)

const (
	envDataDir     = "KEYLEDGER_DATA_DIR"
	defaultDataDir = "./data"
)

func init() { cobra.AddTemplateFunc("flagTable", flagTable) }

// withEnvironment lets flags be given as variables too: --data-dir as
// KEYLEDGER_DATA_DIR.
func withEnvironment(flags *pflag.FlagSet, names ...string) {
	for _, name := range names {
		variable := "KEYLEDGER_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		annotate(flags, name, noteEnvironment, variable)
	}
}

// withDefault says in words what a flag is when it is not given.
func withDefault(flags *pflag.FlagSet, name, words string) { annotate(flags, name, noteDefault, words) }

func annotate(flags *pflag.FlagSet, name, note, value string) {
	if err := flags.SetAnnotation(name, note, []string{value}); err != nil {
		panic(err) // no such flag
	}
}

// applyEnvironment gives every flag that is not on the command line the value of its
// variable.
func applyEnvironment(flags *pflag.FlagSet) (err error) {
	flags.VisitAll(func(f *pflag.Flag) {
		variable := annotation(f, noteEnvironment)
		value, set := os.LookupEnv(variable)
		if err != nil || f.Changed || variable == "" || !set || value == "" {
			return
		}
		if bad := f.Value.Set(value); bad != nil {
			err = usagef("%s: %v", variable, bad)
		}
	})
	return err
}

func annotation(f *pflag.Flag, note string) string {
	if values := f.Annotations[note]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// flagTable is the help on flags: flag, environment, default, meaning.
func flagTable(flags *pflag.FlagSet) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  FLAG\tENVIRONMENT\tDEFAULT\tMEANING")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		placeholder, meaning := pflag.UnquoteUsage(f)
		meaning = strings.TrimPrefix(meaning, placeholder+": ")
		name := strings.TrimSpace("--" + f.Name + " " + placeholder)
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		standard := annotation(f, noteDefault)
		if standard == "" && !slices.Contains([]string{"[]", "0", "false"}, f.DefValue) {
			standard = f.DefValue
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", name, annotation(f, noteEnvironment), standard, meaning)
	})
	w.Flush()
	return strings.TrimRight(text.String(), "\n")
}
