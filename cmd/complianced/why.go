package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
)

// whyTimeout bounds what it takes to read all that the stream has of a record.
const whyTimeout = time.Minute

// Where a value came from.
const (
	fromReport   = "report"
	fromReplay   = "replay"
	fromDeletion = "deletion"
)

// origin is where the value of a property came from.
type origin struct {
	Property string `json:"property"`
	// Value is as in the documented object.
	Value json.RawMessage `json:"value"`
	// EventTime and EventHash are the version; absent where the property was never set.
	EventTime string `json:"eventTime,omitempty"`
	EventHash string `json:"eventHash,omitempty"`
	// EventID, Stream and Sequence are of the first report with this value and
	// version that the stream has; absent where it has none any more.
	EventID  string `json:"eventId,omitempty"`
	Stream   string `json:"stream,omitempty"`
	Sequence uint64 `json:"sequence,omitempty"`
	// From is one of report, replay and deletion; absent where it is not known.
	From string `json:"from,omitempty"`
}

// why finds out where the values of a record came from. It reads all reports of the
// record that the stream has.
func (c *common) why(ctx context.Context, key compliance.Key, layout compliance.Layout, record *compliance.Record) ([]origin, error) {
	origins, err := recorded(key, record)
	if err != nil {
		return nil, err
	}
	nc, err := c.clientNATS("get --why")
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	partition := layout.PartitionOf(key.Device)
	rules := compliance.Rules{Partitions: layout.Partitions, Partition: partition}
	stream, subject := ingest.StreamName(layout, partition), key.Subject()
	if layout.Partitions > 1 {
		subject = key.PartitionSubject(partition)
	}
	err = eachReport(ctx, js, stream, subject, func(e *compliance.Envelope) {
		if report, rejection := rules.Decode(e); rejection == nil {
			explainBy(origins, record, stream, e, &report)
		}
	})
	return origins, explain(nc, err)
}

// recorded is what the record itself says.
func recorded(key compliance.Key, record *compliance.Record) ([]origin, error) {
	values := map[string]json.RawMessage{}
	if err := json.Unmarshal(record.JSON(key.Device), &values); err != nil {
		return nil, err
	}
	origins := make([]origin, 0, compliance.NumProperties)
	for _, p := range compliance.Properties() {
		o := origin{Property: p.String(), Value: values[p.String()]}
		if kind := record.Values[p].Kind; kind != compliance.Unset {
			version := record.Versions[p]
			o.EventTime, o.EventHash = compliance.FormatStored(version.Time.Time()), fmt.Sprintf("%016x", version.ID)
			if kind == compliance.Cleared {
				o.From = fromDeletion // Nothing else clears a property.
			}
		}
		origins = append(origins, o)
	}
	return origins, nil
}

// explainBy notes what a report says about the origins of values. The first report
// counts: others with the same value and version are copies.
func explainBy(origins []origin, record *compliance.Record, stream string, e *compliance.Envelope, report *compliance.Report) {
	for i, p := range compliance.Properties() {
		o := &origins[i]
		if o.Sequence != 0 || report.Values[p].Kind == compliance.Unset ||
			report.Values[p] != record.Values[p] || report.Version != record.Versions[p] {
			continue
		}
		o.EventID, o.Stream, o.Sequence = report.EventID, stream, report.Sequence
		switch {
		case report.Removed:
			o.From = fromDeletion
		case e.Replayed():
			o.From = fromReplay
		default:
			o.From = fromReport
		}
	}
}

// fetchReports is how many reports are asked for at a time.
const fetchReports = 500

// eachReport hands over what a stream has on a subject, in sequence.
func eachReport(ctx context.Context, js jetstream.JetStream, stream, subject string, take func(*compliance.Envelope)) error {
	ctx, cancel := context.WithTimeout(ctx, whyTimeout)
	defer cancel()
	consumer, err := js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}})
	if err != nil {
		return fmt.Errorf("read stream %s: %w", stream, err)
	}
	for left := consumer.CachedInfo().NumPending; left > 0; {
		// What is there comes at once; the end of it is told by a message without one.
		batch, err := consumer.FetchNoWait(fetchReports)
		if err != nil {
			return fmt.Errorf("read stream %s: %w", stream, err)
		}
		n := 0
		for message := range batch.Messages() {
			at, err := message.Metadata()
			if err != nil {
				return fmt.Errorf("read stream %s: %w", stream, err)
			}
			n, left = n+1, at.NumPending
			take(&compliance.Envelope{
				Subject: message.Subject(), Header: message.Headers(), Body: message.Data(),
				Sequence: at.Sequence.Stream, Stored: at.Timestamp,
			})
		}
		if err := errors.Join(batch.Error(), ctx.Err()); err != nil {
			return fmt.Errorf("read stream %s: %w", stream, err)
		}
		if n == 0 {
			return nil // The others are gone meanwhile.
		}
	}
	return nil
}

// printWhy prints the origins as a table.
func printWhy(w io.Writer, record *compliance.Record, origins []origin) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PROPERTY\tVALUE\tEVENT TIME\tFROM\tSEQUENCE\tEVENT HASH\tEVENT ID")
	for i, p := range compliance.Properties() {
		o := origins[i]
		sequence := ""
		switch {
		case o.Sequence != 0:
			sequence = strconv.FormatUint(o.Sequence, 10)
		case o.EventTime != "":
			sequence = "(not in the stream)"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p, plain(valueText(record, p)), o.EventTime, o.From, sequence, o.EventHash, plain(o.EventID))
	}
	return table.Flush()
}

// writeWhy writes the origins as JSON, and what the record counts as where it exists.
func writeWhy(w io.Writer, key compliance.Key, f compliance.Facts, validity int, origins []origin) error {
	e := f.At(time.Now(), validity)
	told := struct {
		Policy     string   `json:"policy"`
		Device     string   `json:"device"`
		Removed    bool     `json:"removed"`
		Effective  string   `json:"effectiveStatus,omitempty"`
		InGrace    bool     `json:"inGrace"`
		Stale      bool     `json:"stale"`
		Properties []origin `json:"properties"`
	}{key.Policy, key.Device, !f.Exists, e.Status, e.InGrace, e.Stale, origins}
	if !f.Exists {
		told.Effective = ""
	}
	lines := json.NewEncoder(w)
	lines.SetEscapeHTML(false)
	return lines.Encode(told)
}
