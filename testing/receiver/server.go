package receiver

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// headerTimeout bounds how long a client may take to send a request's header.
const headerTimeout = 10 * time.Second

// Server is a Receiver that listens on a free port of 127.0.0.1.
type Server struct {
	*Receiver
	URL string // http://127.0.0.1:<port>, to be followed by a path

	http *http.Server
	done chan error // of Serve
}

// Start starts a Server. The caller closes it.
func Start() (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the webhook receiver: %w", err)
	}
	s := &Server{
		Receiver: New(),
		URL:      "http://" + listener.Addr().String(),
		done:     make(chan error, 1),
	}
	s.http = &http.Server{Handler: s.Receiver, ReadHeaderTimeout: headerTimeout}
	go func() { s.done <- s.http.Serve(listener) }()
	return s, nil
}

// Close stops listening and cuts what is open.
func (s *Server) Close() error {
	err := s.http.Close()
	if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("close the webhook receiver: %w", err)
	}
	return nil
}
