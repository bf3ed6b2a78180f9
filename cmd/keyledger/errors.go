package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/events/store/proof"
	"github.com/keyledger/keyledger/ledger/server"
)

// Exit codes. Beside 0, these are all.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitStorage = 74 // EX_IOERR of sysexits.h: to start again does not help
)

// exitCodes is the same for people.
const exitCodes = `Exit codes: 0 done; 1 refused or failed; 2 the command line is wrong;
74 the disk of the server failed or is full: do not start it again before that is solved.`

// Codes of errors that are not the ledger's own (package events), for --json.
const (
	codeFailed      events.Code = "failed"
	codeInterrupted events.Code = "interrupted"
	codeLogDamaged  events.Code = "log_damaged"
	codeExport      events.Code = "export_damaged"
	codeNotProved   events.Code = "not_proved"
	codeStorage     events.Code = "storage_failed"
)

// usageError is a mistake in the command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{text: fmt.Sprintf(format, args...)}
}

// codeOf is the exit code of a command that ended with err.
func codeOf(err error, wrong bool) int {
	switch {
	case wrong:
		return exitUsage
	case errors.Is(err, server.ErrStorageFailed):
		return exitStorage
	}
	return exitFailed
}

// errTold ends a command with exit code 1 whose output has said why already.
var errTold = errors.New("told")

// errInterrupted is what a signal makes of a command; what wraps it says what goes on.
var errInterrupted = errors.New("interrupted")

// exit says what went wrong and returns the exit code.
func (a *app) exit(cmd *cobra.Command, args []string, err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errTold):
		return exitFailed
	}
	err = a.explainDenied(err)
	var usage *usageError
	wrong := !a.started || errors.As(err, &usage)
	if errors.Is(err, context.Canceled) && !errors.Is(err, errInterrupted) {
		err = errInterrupted
	}
	if a.json || slices.Contains(args, "--json") {
		body, encodeErr := events.Encode(map[string]any{"error": describe(err, wrong)})
		if encodeErr != nil {
			body = []byte(encodeErr.Error())
		}
		fmt.Fprintf(a.errOut, "%s\n", body)
	} else {
		fmt.Fprintf(a.errOut, "keyledger: %v\n", err)
		if wrong {
			fmt.Fprintf(a.errOut, "%q tells how.\n", cmd.CommandPath()+" --help")
		}
	}
	return codeOf(err, wrong)
}

// describe is an error for programs.
func describe(err error, usage bool) *events.Error {
	out := &events.Error{Code: codeFailed, Message: err.Error()}
	var refused *events.Error
	var damage *store.DamageError
	var export *store.ExportError
	var refusal *proof.Refusal
	switch {
	case usage:
		out.Code = events.InvalidArgument
	case errors.As(err, &refused):
		out.Code, out.Details = refused.Code, refused.Details
		if err == error(refused) {
			out.Message = refused.Message
		}
	case errors.As(err, &damage):
		at := events.Position{Partition: damage.Partition, Sequence: damage.Sequence, Index: events.NoIndex}
		out.Code, out.Details = codeLogDamaged, map[string]any{"position": at.String()}
	case errors.As(err, &export):
		at := events.Position{Partition: export.Partition, Sequence: export.Sequence, Index: events.NoIndex}
		out.Code, out.Details = codeExport, map[string]any{"position": at.String()}
	case errors.As(err, &refusal):
		out.Code = codeNotProved
		if refusal.Position.Sequence != 0 {
			out.Details = map[string]any{"position": refusal.Position.String()}
		}
	case errors.Is(err, server.ErrStorageFailed):
		out.Code = codeStorage
	case errors.Is(err, server.ErrLoss):
		out.Code = codeLogDamaged
	case errors.Is(err, errInterrupted):
		out.Code = codeInterrupted
	case errors.Is(err, nats.ErrPermissionViolation):
		out.Code = events.PermissionDenied
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrNoServers),
		errors.Is(err, context.DeadlineExceeded):
		out.Code = events.Unavailable
	}
	return out
}
