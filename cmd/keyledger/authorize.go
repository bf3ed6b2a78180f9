package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
)

func authorizeCommand(a *app) *cobra.Command {
	var body ledger.Authorize
	var cost, units int64
	var signingKey string
	c := a.verb(&cobra.Command{
		Use:   "authorize SECRET | --key KEY --signing-key FILE",
		Short: "Decide one request as a gateway does: may this key do this, and take the credits",
		Long: `Decide one request as a gateway does: may this key do this, and take the credits.
It ends with exit code 1 when the request is refused. Give - for the secret to have it
read from standard input, which keeps it out of the shell's history and the process list.
A signing key has no secret: give its id, the file with its private half and the message.`,
		Example: `  keyledger authorize kl_test_… --product payments --access read
  keyledger authorize - --ip 203.0.113.7 --cost 250 < secret.txt
  keyledger authorize --key key_01J8Z5T0XKQ4R7N2M3V6W9Y1AB --signing-key robot.pem --message "GET /v1/cards"`,
		Args: func(cmd *cobra.Command, args []string) error {
			if body.Key != "" {
				return arguments()(cmd, args)
			}
			return arguments("SECRET")(cmd, args)
		},
	}, func(cmd *cobra.Command, args []string) (err error) {
		if err = a.identify(&body, args, signingKey); err != nil {
			return err
		}
		if cmd.Flags().Changed("cost") {
			body.Cost = &cost
		}
		if cmd.Flags().Changed("units") {
			body.Units = &units
		}
		id, err := commandID(cmd)
		if err != nil {
			return err
		}
		body.ID = id.String()
		return a.with(cmd, func(ctx context.Context, c *client.Client) error {
			answer, err := c.Authorize(ctx, &body, traced())
			if err != nil {
				return unsettled(err, id)
			}
			return a.showAnswer(answer)
		})
	})
	flags := c.Flags()
	flags.StringVar(&body.Product, "product", "", "`PRODUCT` the request is for")
	flags.StringVar(&body.Access, "access", "", "`ACCESS` it needs: read or write")
	withDefault(flags, "access", "write")
	flags.StringVar(&body.IP, "ip", "", "`ADDRESS` it came from")
	flags.Int64Var(&cost, "cost", 0, "what it costs")
	withDefault(flags, "cost", "the plan's price for each unit")
	flags.Int64Var(&units, "units", 1, "how many units it asks for")
	flags.StringVar(&body.Reference, "reference", "", "`TEXT` of your own")
	flags.StringVar(&body.Key, "key", "", "`KEY`: the id of a signing key")
	flags.StringVar(&signingKey, "signing-key", "", "`FILE` with its private half, in PEM (PKCS #8)")
	flags.StringVar(&body.Message, "message", "", "`TEXT` to sign")
	together(c, "key", "signing-key")
	return withID(c)
}

// identify fills in who asks: the secret, or a signature that is made now.
func (a *app) identify(body *ledger.Authorize, args []string, signingKey string) (err error) {
	if body.Key == "" {
		if body.Message != "" {
			return usagef("--message is what a signing key signs: it goes with --key and --signing-key")
		}
		body.Secret, err = a.secret(args[0])
		return err
	}
	private, err := readPrivateKey(signingKey)
	if err == nil {
		body.Sign(private, events.At(time.Now()))
	}
	return err
}

// secret is the argument, or the first line of standard input for "-".
func (a *app) secret(argument string) (string, error) {
	if argument != "-" {
		return argument, nil
	}
	const most = 1024 // bytes, as many as the ledger takes
	line, err := bufio.NewReader(io.LimitReader(a.in, most+2)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("read the secret from standard input: %w", err)
	}
	if len(strings.TrimSpace(line)) > most {
		return "", usagef("the secret on standard input has more than %d bytes", most)
	}
	if line = strings.TrimSpace(line); line == "" {
		return "", usagef("SECRET is -, but there is none on standard input")
	}
	return line, nil
}

// showAnswer prints a decision. A refusal ends the command with exit code 1.
func (a *app) showAnswer(answer *ledger.Answer) error {
	reply := &client.Reply{Body: answer.AppendJSON(nil), Position: answer.Position, Replayed: answer.Replayed}
	err := a.show(reply, answer, func(t *table) {
		decision := "allowed"
		if !answer.Allowed {
			decision = "refused: " + string(answer.Code)
		}
		if answer.Message != "" {
			decision += ": " + answer.Message
		}
		t.row("decision", decision)
		if answer.Account != "" {
			t.row("account", answer.Account+", "+answer.Environment)
			t.row("key", answer.Key)
			t.row("cost", answer.Cost)
		}
		if answer.Balance != nil {
			t.row("available", *answer.Balance)
		}
		if r := answer.Rate; r != nil {
			t.row("rate", fmt.Sprintf("%d of %d left, full in %d ms", r.Remaining, r.Limit, r.ResetMS))
		}
		if answer.Debit != "" {
			t.row("debit", answer.Debit)
		}
	})
	if err == nil && !answer.Allowed {
		return errTold
	}
	return err
}
