package main_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
)

// TestManyClientsUpdateTheSameRecords has ten clients that update a hundred devices at
// once. Each value that is sent is sent once, so that what an answer holds tells which
// update set it.
func TestManyClientsUpdateTheSameRecords(t *testing.T) {
	const clients, devices = 10, 100
	updates := 1000
	if testing.Short() {
		updates = 100
	}
	s := serve(t)
	names := []string{"userName", "deviceModel", "deviceDisplayName", "userPrincipalName"}
	type answer struct{ device, property, sent, have string }
	var mu sync.Mutex
	var answers []answer
	var group errgroup.Group
	for client := range clients {
		group.Go(func() error {
			random := rand.New(rand.NewPCG(1, uint64(client)))
			for i := range updates {
				device, property := fmt.Sprintf("d%d", random.IntN(devices)), names[random.IntN(len(names))]
				sent := fmt.Sprintf("%d of client %d", i, client)
				body := fmt.Sprintf(`{%q:%q,"status":%q}`, property, sent, compliance.Status(random.IntN(compliance.NumStatuses)))
				r := s.patch("p/deviceStatuses/"+device, body)
				if r.status != http.StatusOK {
					return fmt.Errorf("status %d: %s", r.status, r.body)
				}
				var object map[string]any
				if err := json.Unmarshal([]byte(r.body), &object); err != nil {
					return err
				}
				have, _ := object[property].(string)
				mu.Lock()
				answers = append(answers, answer{device, property, sent, have})
				mu.Unlock()
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	messages, _ := s.judge() // The state is what the law makes of the accepted reports.
	if len(messages) != clients*updates {
		t.Errorf("%d reports are stored, %d were answered with 200", len(messages), clients*updates)
	}
	times := map[string]string{} // By value: no two reports have the same.
	stamps := map[string]bool{}
	for _, m := range messages {
		var body map[string]string
		if err := json.Unmarshal(m.Body, &body); err != nil {
			t.Fatal(err)
		}
		at := m.Header["Ce-Time"]
		if at == nil {
			at = m.Header["ce-time"]
		}
		for _, name := range names {
			if value := body[name]; value != "" {
				times[value] = at[0]
			}
		}
		stamps[at[0]] = true
	}
	if len(stamps) != len(messages) {
		t.Errorf("%d reports have %d times", len(messages), len(stamps))
	}
	newer := 0
	for _, a := range answers {
		switch sent, have := times[a.sent], times[a.have]; {
		case sent == "" || have == "":
			t.Fatalf("%s of %s: sent %q, answered %q: not in the stream", a.property, a.device, a.sent, a.have)
		case have < sent: // Texts of one form, in the order of the times.
			t.Errorf("%s of %s: sent at %s, answered with a value of %s", a.property, a.device, sent, have)
		case have > sent:
			newer++
		}
	}
	t.Logf("%d updates, %d of them answered with a newer value", len(answers), newer)
}

func TestTheAPIWhenItsServersAreAway(t *testing.T) {
	b := startBroker(t, "")
	dir := t.TempDir()
	own, _ := ownRedis(t, dir)
	b.provision("", own)
	t.Setenv("COMPLIANCED_NATS_URL", b.url(""))
	s := serve(t, "--redis-url", own.URL(), "--api-wait", "1s")
	s.patch("p/deviceStatuses/d", `{"userName":"a"}`).want(http.StatusOK)

	if err := own.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"p/deviceStatuses/d", "p/deviceStatuses", "p/deviceStatusOverview"} {
		begun := time.Now()
		r := s.read(path)
		t.Logf("%s: %s", path, time.Since(begun))
		r.fault(http.StatusServiceUnavailable, "ServiceUnavailable")
		if r.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", path)
		}
	}
	stored := s.patch("p/deviceStatuses/d", `{"userName":"b"}`).want(http.StatusAccepted).object()
	if stored["sequence"] != 2.0 {
		t.Errorf("accepted: %v", stored)
	}
	s.call(http.MethodDelete, policies+"p/deviceStatuses/e", "").want(http.StatusAccepted)

	b.stop()
	r := s.patch("p/deviceStatuses/d", `{"userName":"c"}`)
	r.fault(http.StatusServiceUnavailable, "ServiceUnavailable")
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	s.patch("p/deviceStatuses", `{"value":[{"id":"d"},{"id":"e"}]}`).fault(http.StatusServiceUnavailable, "ServiceUnavailable")

	// And all is well again.
	ownRedis(t, dir)
	b.start("")
	s.answers("/readyz", http.StatusOK)
	eventually(t, "the report of the outage", func() bool {
		r := s.read("p/deviceStatuses/d")
		return r.status == http.StatusOK && r.object()["userName"] == "b"
	})
	s.patch("p/deviceStatuses/d", `{"userName":"d"}`).want(http.StatusOK)
}

func TestTheAPIAnswersBeforeItsServersAreThere(t *testing.T) {
	s := prepare(t, "--redis-url", "redis://127.0.0.1:1")
	s.launch()
	r := s.read("p/deviceStatuses/d")
	r.fault(http.StatusServiceUnavailable, "ServiceUnavailable")
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

// dial sends bytes to the API, a part at a time, and returns the answer.
func (s *serving) dial(parts ...string) response {
	s.Helper()
	c, err := new(net.Dialer).DialContext(s.Context(), "tcp", strings.TrimPrefix(s.HTTP, "http://"))
	if err != nil {
		s.Fatal(err)
	}
	defer c.Close()
	for _, part := range parts {
		if _, err := c.Write([]byte(part)); err != nil {
			s.Fatal(err)
		}
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		s.Fatalf("no answer: %v", err)
	}
	defer answer.Body.Close()
	r := response{T: s.T, status: answer.StatusCode, header: answer.Header}
	text := make([]byte, max(answer.ContentLength, 0))
	if n, err := bufio.NewReader(answer.Body).Read(text); err != nil {
		s.Fatalf("%d bytes, %v", n, err)
	}
	r.body = string(text)
	return r
}

func TestRequestsThatAreWrongGetAnErrorObject(t *testing.T) {
	t.Parallel() // Slow ones take seconds.
	s := serve(t)
	head := func(method, path string, lines ...string) string {
		lines = append([]string{method + " " + path + " HTTP/1.1", "Host: x", "Authorization: Bearer " + s.Token}, lines...)
		return strings.Join(lines, "\r\n") + "\r\n"
	}
	const device = policies + "p/deviceStatuses/d"
	kind, length := "Content-Type: application/json", "Content-Length: 2"
	for name, c := range map[string]struct {
		parts  []string
		status int
		code   string
	}{
		"header too slow":      {[]string{head("PATCH", device, kind)}, http.StatusRequestTimeout, "RequestTimeout"},
		"request line slow":    {[]string{"PATCH /dev"}, http.StatusRequestTimeout, "RequestTimeout"},
		"body too slow":        {[]string{head("PATCH", device, kind, length) + "\r\n", "{"}, http.StatusRequestTimeout, "RequestTimeout"},
		"chunked":              {[]string{head("PATCH", device, kind, "Transfer-Encoding: chunked") + "\r\n2\r\n{}\r\n0\r\n\r\n"}, http.StatusLengthRequired, "LengthRequired"},
		"17 KiB":               {[]string{head("PATCH", device, kind, "Content-Length: 17408") + "\r\n" + strings.Repeat("x", 17408)}, http.StatusRequestEntityTooLarge, "tooLarge"},
		"17 KiB unsent":        {[]string{head("PATCH", device, kind, "Content-Length: 17408") + "\r\n"}, http.StatusRequestEntityTooLarge, "tooLarge"},
		"no type":              {[]string{head("PATCH", device, length) + "\r\n{}"}, http.StatusUnsupportedMediaType, "UnsupportedMediaType"},
		"another type":         {[]string{head("PATCH", device, length, "Content-Type: text/plain") + "\r\n{}"}, http.StatusUnsupportedMediaType, "UnsupportedMediaType"},
		"another charset":      {[]string{head("PATCH", device, length, kind+"; charset=latin1") + "\r\n{}"}, http.StatusUnsupportedMediaType, "UnsupportedMediaType"},
		"compressed":           {[]string{head("PATCH", device, length, kind, "Content-Encoding: gzip") + "\r\n{}"}, http.StatusUnsupportedMediaType, "UnsupportedMediaType"},
		"not acceptable":       {[]string{head("GET", device, "Accept: text/html, application/json;q=0") + "\r\n"}, http.StatusNotAcceptable, "NotAcceptable"},
		"an id with a zero":    {[]string{head("GET", policies+"p/deviceStatuses/a%00b") + "\r\n"}, http.StatusBadRequest, "invalidSubject"},
		"an id of dots":        {[]string{head("GET", policies+"../deviceStatuses/d") + "\r\n"}, http.StatusBadRequest, "invalidSubject"},
		"an id of coded dots":  {[]string{head("GET", policies+"p/deviceStatuses/%2e%2e%2fd") + "\r\n"}, http.StatusBadRequest, "invalidSubject"},
		"an id in parentheses": {[]string{head("GET", policies+"p/deviceStatuses('a%2500')") + "\r\n"}, http.StatusBadRequest, "invalidSubject"},
		"a bad escape":         {[]string{head("GET", policies+"p/deviceStatuses/%zz") + "\r\n"}, http.StatusBadRequest, "badRequest"},
		"no such address":      {[]string{head("GET", "/deviceManagement/managedDevices") + "\r\n"}, http.StatusNotFound, "ResourceNotFound"},
		"the root":             {[]string{head("GET", "/") + "\r\n"}, http.StatusNotFound, "ResourceNotFound"},
		"another method":       {[]string{head("PUT", device, length, kind) + "\r\n{}"}, http.StatusMethodNotAllowed, "MethodNotAllowed"},
		"a post to the list":   {[]string{head("POST", policies+"p/deviceStatuses", length, kind) + "\r\n{}"}, http.StatusMethodNotAllowed, "MethodNotAllowed"},
		"no HTTP":              {[]string{"hello\r\n\r\n"}, http.StatusBadRequest, "badRequest"},
		"a header too long":    {[]string{head("GET", device, "X: "+strings.Repeat("x", 40<<10)) + "\r\n"}, http.StatusRequestHeaderFieldsTooLarge, "RequestHeaderFieldsTooLarge"},
		"a condition":          {[]string{head("PATCH", device, kind, length, `If-Match: "x"`) + "\r\n{}"}, http.StatusBadRequest, "notSupported"},
		"a query":              {[]string{head("PATCH", device+"?$select=id", kind, length) + "\r\n{}"}, http.StatusBadRequest, "notSupported"},
		"no token":             {[]string{strings.Replace(head("GET", device), "Authorization", "X", 1) + "\r\n"}, http.StatusUnauthorized, "InvalidAuthenticationToken"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			of := *s
			of.T = t
			r := of.dial(c.parts...)
			r.fault(c.status, c.code)
			if allow := r.header.Get("Allow"); (c.status == http.StatusMethodNotAllowed) != (allow != "") {
				t.Errorf("Allow: %q", allow)
			}
		})
	}
	t.Run("others are answered meanwhile", func(t *testing.T) {
		t.Parallel()
		of := *s
		of.T = t
		var slow []net.Conn
		defer func() {
			for _, c := range slow {
				_ = c.Close()
			}
		}()
		for range 300 { // More than requests may be answered at once.
			c, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.HTTP, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			slow = append(slow, c)
			if _, err := c.Write([]byte(head("PATCH", device, kind, length) + "\r\n{")); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 50 {
			of.patch(fmt.Sprintf("p/deviceStatuses/m%d", i), `{"userName":"a"}`).want(http.StatusOK)
		}
	})
}

func TestTooManyRequestsAtOnceAreTold(t *testing.T) {
	b := startBroker(t, "")
	own, _ := ownRedis(t, t.TempDir())
	b.provision("", own)
	t.Setenv("COMPLIANCED_NATS_URL", b.url(""))
	s := serve(t, "--redis-url", own.URL(), "--roles", "api", "--api-concurrency", "3", "--api-wait", "4s")
	answers := make(chan response)
	update := func(i int) { answers <- s.patch(fmt.Sprintf("p/deviceStatuses/d%d", i), `{}`) }
	// Nobody merges: each waits, and takes no place from others.
	for i := range 3 {
		go update(i)
	}
	eventually(t, "all of them in the stream", func() bool { return s.stored() == 3 })
	for range 3 {
		s.patch("p/deviceStatuses/d", `{}`, "Prefer", "respond-async").want(http.StatusAccepted)
	}
	s.read("p/deviceStatuses/d").want(http.StatusNotFound)
	for range 3 {
		(<-answers).want(http.StatusAccepted)
	}
	// What is not stored yet does.
	b.stop()
	for i := range 5 {
		go update(i)
	}
	for range 2 {
		if r := (<-answers).want(http.StatusTooManyRequests); r.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	s.read("p/deviceStatuses/d").want(http.StatusNotFound)
	for range 3 {
		(<-answers).want(http.StatusServiceUnavailable)
	}
}

func TestTheEndOfAServeAnswersThoseWhoWait(t *testing.T) {
	b := startBroker(t, "")
	own, _ := ownRedis(t, t.TempDir())
	b.provision("", own)
	t.Setenv("COMPLIANCED_NATS_URL", b.url(""))
	s := serve(t, "--redis-url", own.URL(), "--roles", "api", "--api-wait", "30s")
	answers := make(chan response)
	for i := range 20 {
		go func() { answers <- s.patch(fmt.Sprintf("p/deviceStatuses/d%d", i), `{}`) }()
	}
	eventually(t, "all reports in the stream", func() bool { return s.stored() == 20 })
	s.stop()
	for range 20 {
		if r := <-answers; r.status != http.StatusAccepted {
			t.Errorf("status %d: %s", r.status, r.body)
		}
	}
}

func TestServesBehindOneAddress(t *testing.T) {
	b := startBroker(t, "")
	own, _ := ownRedis(t, t.TempDir())
	b.provision("", own)
	t.Setenv("COMPLIANCED_NATS_URL", b.url(""))
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("k", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	const address = "https://compliance.example/graph"
	one := serve(t, "--redis-url", own.URL(), "--http-base-url", address+"/", "--api-link-key-file", key)
	other := serve(t, "--redis-url", own.URL(), "--roles", "api", "--http-base-url", address, "--api-link-key-file", key)
	stranger := serve(t, "--redis-url", own.URL(), "--roles", "api", "--http-base-url", address)
	if one.HTTP != address {
		t.Errorf("serve.json has %s", one.HTTP)
	}
	reach := func(s *serving, token, path string) response {
		s.HTTP, s.Token = "http://"+s.listening(), token
		return s.call(http.MethodGet, path, "")
	}
	token := one.Token
	one.HTTP = "http://" + one.listening()
	one.patch("p/deviceStatuses", `{"value":[{"id":"d1"},{"id":"d2"}]}`).want(http.StatusOK)
	page := reach(one, token, policies+"p/deviceStatuses?$top=1").want(http.StatusOK).object()
	link, _ := page["@odata.nextLink"].(string)
	path, ok := strings.CutPrefix(link, address)
	if !ok || !strings.HasPrefix(page["@odata.context"].(string), address+"/$metadata#") {
		t.Fatalf("page %v", page)
	}
	reach(other, other.Token, path).want(http.StatusOK)
	reach(stranger, stranger.Token, path).want(http.StatusBadRequest)
}

// TestAnUpdateFindsItsPartition has a worker that may not publish results, so that what
// became of an update is looked up, too.
func TestAnUpdateFindsItsPartition(t *testing.T) {
	layout := compliance.Layout{Partitions: 2, Buckets: 4}
	b := startBrokerWith(t, `
  {user: admin, password: word}
  {user: worker, password: word, permissions: {publish: {deny: "compliance.result.*.*.>"}}}`, ingest.Mapping(layout))
	own, _ := ownRedis(t, t.TempDir())
	b.provision("admin:word", own, "--partitions", "2", "--buckets", "4")
	t.Setenv("COMPLIANCED_NATS_URL", b.url("admin:word"))
	s := serve(t, "--redis-url", own.URL())
	streams := map[string]bool{}
	for i := range 20 {
		device := fmt.Sprint("d", i)
		s.patch("p/deviceStatuses/"+device, `{"userName":"a"}`).want(http.StatusOK)
		stored := s.patch("p/deviceStatuses/"+device, `{"userName":"b"}`, "Prefer", "respond-async").want(http.StatusAccepted).object()
		if want := ingest.StreamName(layout, layout.PartitionOf(device)); stored["stream"] != want {
			t.Errorf("%s is in %v, want %s", device, stored["stream"], want)
		}
		streams[stored["stream"].(string)] = true
	}
	if len(streams) != 2 {
		t.Errorf("the streams are %v", streams)
	}
	s.stop()
	t.Setenv("COMPLIANCED_NATS_URL", b.url("worker:word"))
	serve(t, "--redis-url", own.URL(), "--roles", "ingest,state")
	t.Setenv("COMPLIANCED_NATS_URL", b.url("admin:word"))
	gateway := serve(t, "--redis-url", own.URL(), "--roles", "api", "--api-wait", "2s")
	for i := range 4 {
		have := gateway.patch(fmt.Sprintf("p/deviceStatuses/d%d", i), `{"deviceModel":"c"}`).want(http.StatusOK).object()
		if have["userName"] != "b" || have["deviceModel"] != "c" {
			t.Errorf("record %v", have)
		}
	}
}

// listening returns where the API listens, from the log.
func (s *serving) listening() string {
	s.Helper()
	text, err := os.ReadFile(s.log.Name())
	if err != nil {
		s.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "api_listen=")
	if !ok {
		s.Fatalf("the log does not say where the API listens: %s", text)
	}
	return strings.Fields(rest)[0]
}

// TestUpdatesAt500ASecond says how long they take; each must be applied.
func TestUpdatesAt500ASecond(t *testing.T) {
	n := 300
	if *full {
		n = 15000
	}
	s := serve(t)
	took := make([]time.Duration, n)
	tick := time.NewTicker(time.Second / 500)
	defer tick.Stop()
	var group errgroup.Group
	for i := range n {
		<-tick.C
		group.Go(func() error {
			begun := time.Now()
			if r := s.patch(fmt.Sprintf("p/deviceStatuses/d%d", i%1000), `{"userName":"a"}`); r.status != http.StatusOK {
				return fmt.Errorf("status %d: %s", r.status, r.body)
			}
			took[i] = time.Since(begun)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(took)
	t.Logf("%d updates at 500/s: p50 %s, p99 %s, greatest %s", n, took[n/2], took[n*99/100], took[n-1])
}
