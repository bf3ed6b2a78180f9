package main

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/ledger"
)

func keyImport(a *app) *cobra.Command {
	var f keyFlags
	var fromInput bool
	body := ledger.ImportKey{}
	c := a.verb(&cobra.Command{
		Use:   "import ACCOUNT",
		Short: "Take over a key that another system gave out; its secret works on",
		Long: `Take over a key that another system gave out. Its secret works on, and the ledger gets the
SHA-256 of it only: give that, or the secret on standard input, to be hashed here.`,
		Example: `  keyledger key import acme --name legacy --sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  keyledger key import acme --name legacy --environment live --prefix sk_live_…4f2a --secret-stdin < secret.txt`,
		Args: arguments("ACCOUNT"),
	}, func(cmd *cobra.Command, args []string) error {
		if err := f.fill(&body.CreateKey); err != nil {
			return err
		}
		if fromInput {
			secret, err := a.secret("-")
			if err != nil {
				return err
			}
			sum := sha256.Sum256([]byte(secret))
			body.SHA256 = hex.EncodeToString(sum[:])
		}
		return a.command(cmd, args[0], "key.import", body, a.showKey)
	})
	f.addNew(c, &body.CreateKey)
	c.Flags().StringVar(&body.SHA256, "sha256", "", "`HEX`: the SHA-256 of the secret")
	c.Flags().BoolVar(&fromInput, "secret-stdin", false, "read the secret from standard input and send its SHA-256")
	c.Flags().StringVar(&body.ShownAs, "prefix", "", "`TEXT` that the key is shown with, such as the secret's beginning")
	requireOne(c, "sha256", "secret-stdin")
	exclusive(c, "sha256", "secret-stdin")
	return withID(c)
}
