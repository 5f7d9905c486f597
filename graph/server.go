package graph

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// Server is an HTTP server for [Handler]. It bounds what a slow client can take, and makes
// the errors that net/http finds before there is a request (a header that is too slow, too
// long or malformed) error objects like all others.
//
// It speaks HTTP/1.1.
type Server struct {
	http *http.Server
	log  *slog.Logger
}

// Limits of a connection.
const (
	headerTimeout  = 5 * time.Second
	requestTimeout = 10 * time.Second // Header and body.
	answerTimeout  = 60 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeader      = 16 << 10 // Bytes, to which net/http adds 4 KiB.
)

// ServerOptions say how a server works. The zero value does.
type ServerOptions struct {
	// TLS, where not nil, is what it serves with.
	TLS *tls.Config
	// HeaderTimeout and RequestTimeout are how long the header of a request and the whole
	// request may take. They default to 5 and 10 s.
	HeaderTimeout  time.Duration
	RequestTimeout time.Duration
	// Logger hears what net/http says, of a panic for example. Defaults to none.
	Logger *slog.Logger
}

// NewServer returns a server of a handler.
func NewServer(handler http.Handler, o ServerOptions) *Server {
	orDefault(&o.HeaderTimeout, headerTimeout)
	orDefault(&o.RequestTimeout, requestTimeout)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{log: o.Logger}
	s.http = &http.Server{
		Handler:           begin(handler),
		TLSConfig:         o.TLS,
		ReadHeaderTimeout: o.HeaderTimeout,
		ReadTimeout:       o.RequestTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
		ConnState:         s.state,
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		// OPTIONS * is no resource of the API either.
		DisableGeneralOptionsHandler: true,
	}
	return s
}

// connKey is that of the context value that is the connection of a request.
type connKey struct{}

func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}

// isSecure reports whether a request came by TLS. net/http does not see it, as the
// connection is wrapped.
func isSecure(ctx context.Context) bool {
	c := connOf(ctx)
	return c != nil && c.secure
}

// begin notes that the header of a request was read.
func begin(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := connOf(r.Context()); c != nil {
			c.inHeader.Store(false)
		}
		handler.ServeHTTP(w, r)
	})
}

// Serve answers the requests that come to a listener, until [Server.Shutdown]. The error
// is never nil but for that.
func (s *Server) Serve(l net.Listener) error {
	if s.http.TLSConfig != nil {
		config := s.http.TLSConfig.Clone()
		config.NextProtos = []string{"http/1.1"}
		l = tls.NewListener(l, config)
	}
	err := s.http.Serve(&listener{Listener: l, secure: s.http.TLSConfig != nil, log: s.log})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown takes no further request and waits for those under way. Where the context ends
// before, they are broken off.
func (s *Server) Shutdown(ctx context.Context) error {
	if s.http.Shutdown(ctx) == nil {
		return nil
	}
	return s.http.Close()
}

// state follows a connection: a request whose header did not come in time is answered
// here, as net/http says nothing.
func (s *Server) state(c net.Conn, state http.ConnState) {
	conn, ok := c.(*conn)
	if !ok {
		return
	}
	switch state {
	case http.StateActive: // A header was read, or a part of it.
		if conn.timedOut.Load() {
			conn.refuse(http.StatusRequestTimeout)
		}
	case http.StateNew, http.StateIdle:
		conn.inHeader.Store(true)
	case http.StateHijacked, http.StateClosed:
	}
}

type listener struct {
	net.Listener

	secure bool
	log    *slog.Logger
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	wrapped := &conn{Conn: c, secure: l.secure, log: l.log}
	wrapped.inHeader.Store(true)
	return wrapped, nil
}

// conn is a connection that knows whether the header of a request is being read. What
// net/http writes then is an error of its own.
type conn struct {
	net.Conn

	secure   bool
	log      *slog.Logger
	inHeader atomic.Bool
	timedOut atomic.Bool
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.inHeader.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		c.timedOut.Store(true)
	}
	return n, err
}

// Write implements [net.Conn]. An answer without a handler is replaced.
func (c *conn) Write(b []byte) (int, error) {
	status, ok := statusLine(b)
	if !c.inHeader.Load() || !ok || status < http.StatusBadRequest {
		return c.Conn.Write(b)
	}
	c.refuse(status)
	return len(b), nil
}

// CloseWrite ends what is sent: net/http does it so that a client can read an answer before
// the connection ends.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// statusLine returns the status of an answer that begins here.
func statusLine(b []byte) (int, bool) {
	rest, ok := bytes.CutPrefix(b, []byte("HTTP/1.1 "))
	if !ok || len(rest) < 3 {
		return 0, false
	}
	status, err := strconv.Atoi(string(rest[:3]))
	return status, err == nil
}

// refuse answers with an error object and says that the connection ends.
func (c *conn) refuse(status int) {
	requestID := uuid.NewString()
	body := transportProblem(status).body(requestID, "", time.Now())
	header := standing(requestID, "")
	header.Set("Connection", "close")
	header.Set("Content-Type", contentType)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 " + strconv.Itoa(status) + " " + http.StatusText(status) + "\r\n")
	_ = header.Write(&b) // It is memory.
	b.WriteString("\r\n")
	b.Write(body)
	_, _ = c.Conn.Write(b.Bytes()) // A client that has gone hears nothing.
	c.log.Debug("api request that is no HTTP, or too slow", slog.Int("status", status), slog.String("request_id", requestID))
}

// transportProblem is an error that net/http found.
func transportProblem(status int) *problem {
	switch status {
	case http.StatusRequestTimeout:
		return newProblem(status, codeRequestTimeout, "the header of the request did not come in time")
	case http.StatusExpectationFailed:
		return newProblem(status, codeNotSupported, "the header Expect is not supported with anything but 100-continue")
	case http.StatusRequestHeaderFieldsTooLarge:
		return newProblem(status, codeHeaders, "the header of the request is larger than 16 KiB")
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return newProblem(status, codeNotSupported, "the request uses a part of HTTP that is not supported: send HTTP/1.1 with a Content-Length")
	}
	return newProblem(status, codeBadRequest, "the request is not well-formed HTTP")
}
