package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/zeebo/xxh3"
)

// The oracle computes the state from the messages of the stream by sorting them.
// It shares no code with the product: it has its own reader of reports, which
// knows the reports that simulate makes and the tests publish.

type stored struct {
	subject string
	header  map[string][]string
	body    []byte
	at      time.Time
}

// setting is one value that one report gave to one property.
type setting struct {
	time  int64 // 100 ns since 1970
	id    uint64
	value string // JSON, with "\xff" for cleared
}

var defaults = []struct{ name, value string }{
	{"id", ""},
	{"deviceDisplayName", "null"},
	{"userName", "null"},
	{"deviceModel", "null"},
	{"platform", "0"},
	{"complianceGracePeriodExpirationDateTime", `"9999-12-31T23:59:59.9999999Z"`},
	{"status", `"unknown"`},
	{"lastReportedDateTime", `"0001-01-01T00:00:00Z"`},
	{"userPrincipalName", "null"},
}

var statuses = []string{"unknown", "notApplicable", "compliant", "remediated", "nonCompliant", "error", "conflict", "notAssigned"}

// recompute returns the documented object of every record, by policy and device.
func recompute(messages []stored) map[string]string {
	all := map[string]map[string][]setting{}
	for _, m := range messages {
		ids := strings.TrimPrefix(m.subject, "compliance.status.")
		policy, device, _ := strings.Cut(ids, ".")
		body, ok := right(device, m.body)
		if !ok || !recordIDs.MatchString(ids) {
			continue
		}
		at, ok := eventTime(m, body)
		if !ok || at.Sub(m.at) > 10*time.Minute {
			continue
		}
		id := xxh3.HashString(policy + "\x00" + device + "\x00" + string(m.body))
		if given := m.header["ce-id"]; given != nil {
			id = xxh3.HashString(given[0])
		}
		record := all[ids]
		if record == nil {
			record = map[string][]setting{}
			all[ids] = record
		}
		ticks := at.Unix()*1e7 + int64(at.Nanosecond()/100)
		_, removed := body["@removed"]
		body["id"] = json.RawMessage(`"` + device + `"`)
		for _, property := range defaults {
			switch value, set := body[property.name]; {
			case removed:
				record[property.name] = append(record[property.name], setting{ticks, id, "\xff"})
			case set:
				record[property.name] = append(record[property.name], setting{ticks, id, string(value)})
			}
		}
	}
	state := map[string]string{}
	for ids, record := range all {
		if object, exists := object(record); exists {
			state[ids] = object
		}
	}
	return state
}

func object(record map[string][]setting) (string, bool) {
	text := `{"@odata.type":"#microsoft.graph.deviceComplianceDeviceStatus"`
	for _, property := range defaults {
		value := property.value
		if settings := record[property.name]; len(settings) > 0 {
			newest := slices.MaxFunc(settings, func(a, b setting) int {
				switch {
				case a.time != b.time:
					return compare(a.time, b.time)
				case a.id != b.id:
					return compare(a.id, b.id)
				}
				return strings.Compare(rank(property.name, a.value), rank(property.name, b.value))
			})
			if newest.value == "\xff" {
				if property.name == "id" {
					return "", false
				}
			} else {
				value = newest.value
			}
		}
		text += `,"` + property.name + `":` + value
	}
	return text + "}", true
}

func compare[T int64 | uint64](a, b T) int {
	if a < b {
		return -1
	}
	return 1
}

// rank orders values of one version: null, then by the stored bytes, then cleared.
func rank(name, value string) string {
	if value == "null" {
		return ""
	}
	if name == "status" {
		return " " + fmt.Sprint(slices.Index(statuses, strings.Trim(value, `"`)))
	}
	return " " + strings.Trim(value, `"`)
}

var recordIDs = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}\.[A-Za-z0-9_-]{1,128}$`)

// right tells whether a body follows the rules, as far as simulate and these tests
// break them.
func right(device string, body []byte) (map[string]json.RawMessage, bool) {
	members := map[string]json.RawMessage{}
	reader := json.NewDecoder(bytes.NewReader(body))
	if open, err := reader.Token(); err != nil || open != json.Delim('{') || len(body) > 16<<10 || !utf8.Valid(body) || !json.Valid(body) {
		return nil, false
	}
	for reader.More() {
		name, _ := reader.Token()
		var value json.RawMessage
		if reader.Decode(&value) != nil || members[name.(string)] != nil || !fits(device, name.(string), value) {
			return nil, false
		}
		members[name.(string)] = value
	}
	return members, true
}

// fits tells whether a member may have a value.
func fits(device, name string, value json.RawMessage) bool {
	var text string
	isText := value[0] == '"' && json.Unmarshal(value, &text) == nil
	switch name {
	case "id":
		return isText && text == device
	case "deviceDisplayName", "userName", "deviceModel", "userPrincipalName":
		return isText && utf8.RuneCountInString(text) <= 256 || string(value) == "null"
	case "platform":
		_, err := strconv.ParseInt(string(value), 10, 32)
		return err == nil
	case "status":
		return isText && slices.Contains(statuses, text)
	case "lastReportedDateTime", "complianceGracePeriodExpirationDateTime":
		_, err := time.Parse(time.RFC3339Nano, text)
		return isText && err == nil
	case "@odata.type":
		return text == "#microsoft.graph.deviceComplianceDeviceStatus"
	}
	return strings.Contains(name, "@")
}

func eventTime(m stored, body map[string]json.RawMessage) (time.Time, bool) {
	if given := m.header["ce-time"]; given != nil {
		at, err := time.Parse(time.RFC3339Nano, given[0])
		return at, err == nil
	}
	if value, ok := body["lastReportedDateTime"]; ok {
		at, err := time.Parse(time.RFC3339Nano, strings.Trim(string(value), `"`))
		return at, err == nil
	}
	return m.at, true
}

// messages reads the whole stream.
func (s *serving) messages() []stored {
	s.Helper()
	_, js := s.client()
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	stream, err := js.Stream(ctx, "COMPLIANCE_STATUS")
	if err != nil {
		s.Fatal(err)
	}
	n := stream.CachedInfo().State.Msgs
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		s.Fatal(err)
	}
	var all []stored
	reader, err := consumer.Messages()
	if err != nil {
		s.Fatal(err)
	}
	defer reader.Stop()
	for uint64(len(all)) < n {
		m, err := reader.Next(jetstream.NextContext(ctx))
		if err != nil {
			s.Fatal(err)
		}
		meta, err := m.Metadata()
		if err != nil {
			s.Fatal(err)
		}
		all = append(all, stored{m.Subject(), m.Headers(), m.Data(), meta.Timestamp})
	}
	return all
}
