package verify

import (
	"context"
	"errors"
	"net/http"
)

// errHandling stands for whatever handle returned: it may be any error, one of
// those here too.
var errHandling = errors.New("event was not handled")

// Handler makes an http.Handler of a function that handles an event; none of the
// three may be nil. The answer is 204 once the function returned nil, and at once
// for a repeat, see Guard; an event whose function returned an error is answered
// 500, and keyledger sends it again. Whatever cannot be verified is answered
// Status of Read's error, and the function is not called. Answers have no body:
// what went wrong is no business of a stranger's. OPTIONS is answered by AnswerConsent.
//
// The context is the request's. keyledger gives up an attempt after 15 seconds:
// what takes longer is to be put into a queue of the receiver's own.
//
// A program that has something else to say, such as 410 to be sent nothing more,
// or 429 with Retry-After, writes its own handler with Read and Guard.Do.
func Handler(v *Verifier, g *Guard, handle func(context.Context, *Event) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if v.AnswerConsent(w, r) {
			return
		}
		event, err := v.Read(r)
		if err == nil {
			_, err = g.Do(event.Attempt.ID, func() error {
				if handle(r.Context(), event) != nil {
					return errHandling
				}
				return nil
			})
		}
		if errors.Is(err, ErrMethod) {
			w.Header().Set("Allow", allowedMethods) // RFC 9110 §15.5.6
		}
		w.WriteHeader(Status(err))
	})
}

// Status is the HTTP status to answer: 204 for nil, 405, 413, 400 or 401 for
// Read's errors, 409 for ErrBusy, 500 for any other. keyledger sends the event
// again after each but the first.
func Status(err error) int {
	for _, row := range []struct {
		err    error
		status int
	}{
		{nil, http.StatusNoContent},
		{ErrMethod, http.StatusMethodNotAllowed},
		{ErrTooLarge, http.StatusRequestEntityTooLarge},
		{ErrBody, http.StatusBadRequest},
		{ErrHeader, http.StatusBadRequest},
		{ErrEvent, http.StatusBadRequest},
		{ErrTooOld, http.StatusUnauthorized},
		{ErrTooNew, http.StatusUnauthorized},
		{ErrSignature, http.StatusUnauthorized},
		{ErrBusy, http.StatusConflict},
	} {
		if errors.Is(err, row.err) {
			return row.status
		}
	}
	return http.StatusInternalServerError
}
