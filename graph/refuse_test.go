package graph_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/complianced/complianced/graph"
)

// What net/http answers itself has the headers and the error object of every answer.
func TestARequestThatNoHandlerSeesIsAnsweredLikeAnyOther(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := graph.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the handler is called")
	}), graph.ServerOptions{HeaderTimeout: 200 * time.Millisecond})
	ended := make(chan error)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		if err := errors.Join(server.Shutdown(context.WithoutCancel(t.Context())), <-ended); err != nil {
			t.Error(err)
		}
	})
	for request, want := range map[string]struct {
		status int
		code   string
	}{
		"GET / HTTP/1.1\r\n\r\n":                                       {http.StatusBadRequest, "badRequest"},
		"GET / HTTP/1.1\r\nHost: x\r\n":                                {http.StatusRequestTimeout, "RequestTimeout"},
		"GET / HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\n\r\n":          {http.StatusExpectationFailed, "notSupported"},
		"GET / HTTP/1.1\r\nX: " + strings.Repeat("a", 40_000):          {http.StatusRequestHeaderFieldsTooLarge, "RequestHeaderFieldsTooLarge"},
		"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n": {http.StatusNotImplemented, "notSupported"},
		"GET / HTTP/3.0\r\nHost: x\r\n\r\n":                            {http.StatusHTTPVersionNotSupported, "notSupported"},
	} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%.100q: %v", request, err)
		}
		var body struct {
			Error struct {
				Message string `json:"message"`
				Inner   struct {
					Code      string `json:"code"`
					RequestID string `json:"request-id"`
				} `json:"innerError"`
			} `json:"error"`
		}
		if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if response.StatusCode != want.status || body.Error.Inner.Code != want.code {
			t.Errorf("%.100q: %d %+v, want %+v", request, response.StatusCode, body, want)
		}
		if strings.Contains(request, "Expect") && !strings.Contains(body.Error.Message, "Expect") {
			t.Errorf("the message does not say what is not supported: %s", body.Error.Message)
		}
		for name, value := range map[string]string{
			"request-id": body.Error.Inner.RequestID, "Cache-Control": "no-store", "OData-Version": "4.0", "X-Content-Type-Options": "nosniff",
		} {
			if have := response.Header.Get(name); have != value || have == "" {
				t.Errorf("%.100q: %s is %q, want %q", request, name, have, value)
			}
		}
		if !response.Close {
			t.Errorf("%.100q: the connection is kept", request)
		}
	}
}
