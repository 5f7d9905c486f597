package graph_test

import (
	"testing"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/graph"
)

func TestAnAddressNamesAResource(t *testing.T) {
	t.Parallel()
	const policies = "/deviceManagement/deviceCompliancePolicies"
	for path, want := range map[string]struct {
		address string
		key     compliance.Key
	}{
		policies + "/p/deviceStatuses":                     {policies + "/p/deviceStatuses", compliance.Key{Policy: "p"}},
		"/beta" + policies + "/p/deviceStatuses":           {"/beta" + policies + "/p/deviceStatuses", compliance.Key{Policy: "p"}},
		"/v1.0" + policies + "('p')/deviceStatuses('d')":   {"/v1.0" + policies + "/p/deviceStatuses/d", compliance.Key{Policy: "p", Device: "d"}},
		policies + "%28%27p%27%29/deviceStatuses%28'd'%29": {policies + "/p/deviceStatuses/d", compliance.Key{Policy: "p", Device: "d"}},
		policies + "/%70/deviceStatuses/%64":               {policies + "/p/deviceStatuses/d", compliance.Key{Policy: "p", Device: "d"}},
		policies + "/p/deviceStatusOverview":               {policies + "/p/deviceStatusOverview", compliance.Key{Policy: "p"}},
		policies + "/deviceStatuses/deviceStatuses":        {policies + "/deviceStatuses/deviceStatuses", compliance.Key{Policy: "deviceStatuses"}},
	} {
		address, key, ok := graph.Route(path)
		if !ok || address != want.address || key != want.key {
			t.Errorf("%s is %s of %+v, %t", path, address, key, ok)
		}
	}
	for _, path := range []string{
		"/", "", policies, policies + "/p", policies + "/p/", "/v2.0" + policies + "/p/deviceStatuses", "/beta/beta" + policies + "/p/deviceStatuses",
		policies + "/p/devicestatuses", policies + "/p/deviceStatuses/", policies + "/p/deviceStatuses/d/e", policies + "/p/deviceStatuses('d')/e",
		policies + "/p/deviceStatuses(d)", policies + "/p/deviceStatuses('d", policies + "/p/deviceStatuses('')", policies + "/p/deviceStatuses('d''e')",
		policies + "/p/deviceStatuses/a%2fb", policies + "/p/deviceStatuses/a%252fb", policies + "/p/deviceStatuses/..", policies + "/p/deviceStatuses/%00",
		policies + "//deviceStatuses", policies + "/../deviceStatuses/d", policies + "/p/deviceStatusOverview/x", policies + "/p/deviceStatusOverview('x')",
		policies + "/p/deviceStatuses('a%2500')", policies + "/p/deviceStatuses('%2564')", policies + "/p*/deviceStatuses", policies + "/p.q/deviceStatuses", "//deviceManagement" + policies,
	} {
		if address, key, ok := graph.Route(path); ok {
			t.Errorf("%s is %s of %+v", path, address, key)
		}
	}
}

func TestWhatAClientAccepts(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"*/*": true, "application/json": true, "application/*;q=0.1": true, "text/html, */*;q=0.1": true, "application/json;odata.metadata=full": true,
		"Application/JSON; Q=1": true, "text/html": false, "application/json;q=0": false, "*/*, application/json;q=0": false, "application/xml": false,
		"application/*;q=0, application/json": true, "": false,
	} {
		if have := graph.Accepts(line); have != want {
			t.Errorf("Accept: %s: %t", line, have)
		}
	}
	if !graph.Accepts() {
		t.Error("a client that does not say takes all")
	}
	if !graph.Accepts("text/html", "application/json") {
		t.Error("a second line counts as well")
	}
}

func FuzzBodyOnTheCollection(f *testing.F) {
	for _, body := range []string{
		`{"id":"d"}`, `{"value":[{"id":"d"},{}]}`, `{"value":7}`, `[]`, `{"value":[}`, `{"id":"d","value":[]}`, `{"@x":{"id":"y"},"id":"d"}`, "{\"value\":[]}\xff", `{"v\u0061lue":[1]}`,
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		if id, ok := graph.BodyID(body); ok && !compliance.ValidID(id) {
			t.Errorf("%q names %q", body, id)
		}
		n := graph.DeltaMembers(body)
		_, rejection := compliance.Decode(&compliance.Envelope{Subject: "compliance.status.p.d", Body: []byte(body), Sequence: 1})
		if n != -1 && rejection == nil {
			t.Errorf("%q is a delta of %d, and a right report", body, n)
		}
	})
}
