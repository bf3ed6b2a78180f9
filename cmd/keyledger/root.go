package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/keyledger/keyledger/ledger/server"
)

// app is one run of the program: its streams and the global flags.
type app struct {
	in          io.Reader
	out, errOut io.Writer

	server  string
	creds   string
	context string
	json    bool
	timeout time.Duration

	started bool // the command line was good and the verb runs
	inTaken bool // in stands for a file

	denied atomic.Pointer[error] // the first subject that NATS refused
}

const defaultServer = "nats://127.0.0.1:4222"

// newRoot is the whole command tree.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "keyledger",
		Short: "API keys, credits and webhooks in one provable log",
		Long: `keyledger is the ledger behind an API-key product: it issues keys, decides every
request, takes the credits, keeps an audit trail that cannot be quietly changed, and
tells subscribers by webhook.

"keyledger serve" is the server. All other verbs are its clients, over NATS.

` + exitCodes + `
With --json, standard output has the reply as it came, and an error is one line on
standard error: {"error":{"code":"…","message":"…"}}.`,
		Example: `  keyledger demo
  keyledger serve
  keyledger account open acme --name "Acme Inc."
  keyledger credits grant acme 2000
  keyledger key create acme --name backend --environment test`,
		Version:       server.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return applyEnvironment(cmd.Flags())
		},
	}
	root.SetVersionTemplate("keyledger {{.Version}}\n")
	flags := root.PersistentFlags()
	flags.StringVar(&a.server, "server", defaultServer, "`URL` of the NATS server that keyledger is on")
	flags.StringVar(&a.creds, "creds", "", "who you are: a `FILE` with an nkey seed")
	flags.StringVar(&a.context, "context", "", "`NAME` of a NATS CLI context, instead of --server and --creds")
	flags.BoolVar(&a.json, "json", false, "print replies and errors as JSON")
	flags.DurationVar(&a.timeout, "timeout", 5*time.Second, "`DURATION` to wait for an answer")
	withEnvironment(flags, "server", "creds", "context", "json", "timeout")
	withDefault(flags, "creds", "operator.nk in "+envDataDir+" or "+defaultDataDir+", if it is there")
	root.SetUsageTemplate(usageTemplate)
	root.SetFlagErrorFunc(flagError)

	root.AddCommand(
		serveCommand(a), demoCommand(a),
		accountCommand(a), keyCommand(a), creditsCommand(a), holdCommand(a), authorizeCommand(a), accessCommand(a),
		webhookCommand(a), auditCommand(a), usageCommand(a), exportCommand(a), restoreCommand(a), projectionsCommand(a), statusCommand(a), clockCommand(a), credsCommand(a),
		benchCommand(a),
	)
	a.complete(root)
	return root
}

// verb completes a command that does something.
func (a *app) verb(c *cobra.Command, do func(cmd *cobra.Command, args []string) error) *cobra.Command {
	c.RunE = func(cmd *cobra.Command, args []string) error {
		a.started = true
		return do(cmd, args)
	}
	return c
}

// group is a command that only has verbs below it.
func group(c *cobra.Command, verbs ...*cobra.Command) *cobra.Command {
	c.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return usagef("unknown command %q for %q%s", args[0], cmd.CommandPath(), didYouMean(near(cmd, args[0])))
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	c.AddCommand(verbs...)
	return c
}

// near is the names of verbs below a command that are near to a name.
func near(cmd *cobra.Command, name string) []string {
	cmd.SuggestionsMinimumDistance = 2
	return cmd.SuggestionsFor(name)
}

// didYouMean offers what is near to what was given, at the end of an error.
func didYouMean(near []string) string {
	if len(near) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(near, " or ") + "?"
}

// flagError says which flags begin like one that there is not.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if strings.HasPrefix(f.Name, unknown.GetSpecifiedName()) {
			names = append(names, "--"+f.Name)
		}
	})
	return fmt.Errorf("%w%s", err, didYouMean(names))
}

// usageTemplate is cobra's, but for its tables of flags.
const usageTemplate = `Usage:{{if .HasAvailableSubCommands}}
  {{.CommandPath}} [command]{{else}}
  {{.UseLine}}{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}

Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags (a flag wins over its environment variable, that over the default):
{{flagTable .LocalFlags}}{{end}}{{if .HasAvailableInheritedFlags}}

Global flags:
{{flagTable .InheritedFlags}}{{end}}{{if .HasAvailableSubCommands}}

"{{.CommandPath}} [command] --help" tells more.{{end}}
`
