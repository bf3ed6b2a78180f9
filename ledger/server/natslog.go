package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

// natsLogger gives what nats-server logs to slog: errors and warnings as such, notices
// at debug level. Debug and trace are never switched on: a trace shows messages, and
// commands carry secrets.
//
// nats-server reports what stops it from starting by a log line alone, which Fatalf
// keeps for startError.
type natsLogger struct {
	log *slog.Logger

	mu      sync.Mutex
	running bool  // guarded by mu
	fatal   error // guarded by mu; the first one before running
}

func (l *natsLogger) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }
func (l *natsLogger) Warnf(format string, v ...any)   { l.write(slog.LevelWarn, format, v) }
func (l *natsLogger) Errorf(format string, v ...any)  { l.write(slog.LevelError, format, v) }
func (l *natsLogger) Debugf(string, ...any)           {}
func (l *natsLogger) Tracef(string, ...any)           {}

// Fatalf is called when the server cannot go on; it does not end the process.
func (l *natsLogger) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running {
		l.write(slog.LevelError, format, v)
		return
	}
	if l.fatal == nil {
		l.fatal = &fatalError{text: fmt.Sprintf(format, v...), causes: errorsIn(v)}
	}
}

// begun ends the start: from now on a fatal error is logged, for nobody asks for it.
func (l *natsLogger) begun() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running = true
}

// startError is what stopped the server, nil if nothing did.
func (l *natsLogger) startError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}

func (l *natsLogger) write(level slog.Level, format string, v []any) {
	// nats-server gives no context to its log lines.
	ctx := context.Background()
	if l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, fmt.Sprintf(format, v...), "from", "nats-server")
	}
}

// fatalError is a log line of nats-server with the errors that were put into it.
type fatalError struct {
	text   string
	causes error
}

func (e *fatalError) Error() string { return e.text }
func (e *fatalError) Unwrap() error { return e.causes }

func errorsIn(v []any) error {
	var all []error
	for _, arg := range v {
		if err, ok := arg.(error); ok {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}
