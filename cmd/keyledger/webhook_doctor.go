package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/ledger/client"
)

// doctorTimeout is how long endpoint.doctor may take, with the server's 30 s for its steps.
const doctorTimeout = 32 * time.Second

func webhookDoctor(a *app) *cobra.Command {
	return a.verb(&cobra.Command{
		Use:   "doctor ACCOUNT ENDPOINT",
		Short: "Find out why an endpoint gets nothing, and what to do",
		Long: `Go through all that a delivery to an endpoint needs, from the server: resolve the name, pass
the guard against private addresses, connect, shake hands, ask for the receiver's consent,
sign, and send a signed event of type dev.keyledger.endpoint.tested.v1. That event is in no
log: it has no sequence, and its extension replay is "doctor". What the receiver answers to it
changes nothing. Exit code 1 says that a step failed.`,
		Example: "  keyledger webhook doctor acme endpoint_01J8Z5T0XKQ4R7N2M3V6W9Y1AB",
		Args:    arguments("ACCOUNT", "ENDPOINT"),
	}, func(cmd *cobra.Command, args []string) error {
		a.timeout = max(a.timeout, doctorTimeout)
		return a.query(cmd, args[0], "endpoint.doctor", map[string]string{"endpoint": args[1]}, a.showCheckup)
	})
}

// checkup is the reply of endpoint.doctor.
type checkup struct {
	Doctor struct {
		Healthy bool          `json:"healthy"`
		Notes   []string      `json:"notes"`
		Steps   []checkupStep `json:"steps"`
	} `json:"doctor"`
}

type checkupStep struct {
	Name       string  `json:"name"`
	Result     string  `json:"result"`
	DurationMS float64 `json:"duration_ms"`
	Detail     string  `json:"detail"`
	Error      string  `json:"error"`
	Hint       string  `json:"hint"`
}

func (a *app) showCheckup(reply *client.Reply) error {
	var out checkup
	if err := a.show(reply, &out, out.rows); err != nil {
		return err
	}
	if a.json {
		if err := reply.Decode(&out); err != nil {
			return err
		}
	}
	if !out.Doctor.Healthy {
		return errTold
	}
	return nil
}

func (out *checkup) rows(t *table) {
	d := &out.Doctor
	t.row("STEP", "RESULT", "TOOK", "FOUND")
	for _, s := range d.Steps {
		found, took := s.Detail, "-"
		if s.Error != "" {
			found = s.Error
		}
		if found == "" {
			found = "-"
		}
		if s.Result != "skipped" {
			took = time.Duration(s.DurationMS * float64(time.Millisecond)).Round(10 * time.Microsecond).String()
		}
		t.row(s.Name, s.Result, took, found)
		if s.Hint != "" {
			t.notes = append(t.notes, s.Name+": "+s.Hint)
		}
	}
	t.notes = append(t.notes, d.Notes...)
}
