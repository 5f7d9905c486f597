package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

// mergedPage is how many records of each bucket are held while all are put in one order.
const mergedPage = 200

// exportVersions writes all records with the versions of their properties, in the order
// of devices and of policies. Each bucket has its own in that order; they are merged.
func (c *common) exportVersions(cmd *cobra.Command) error {
	state, err := c.openStore(cmd.Context())
	if err != nil {
		return err
	}
	defer state.Close() //nolint:errcheck // Nothing was written.
	buckets := make([]bucketReader, state.Layout().Buckets)
	for b := range buckets {
		buckets[b] = bucketReader{state: state, bucket: compliance.Bucket(b)}
	}
	out := bufio.NewWriter(cmd.OutOrStdout())
	err = writeInOrder(cmd.Context(), out, buckets)
	return errors.Join(err, out.Flush())
}

func writeInOrder(ctx context.Context, w io.Writer, buckets []bucketReader) error {
	for {
		var first *bucketReader
		for i := range buckets {
			b := &buckets[i]
			if err := b.fill(ctx); err != nil {
				return err
			}
			if len(b.items) > 0 && (first == nil || inOrder(b.items[0].Key, first.items[0].Key) < 0) {
				first = b
			}
		}
		if first == nil {
			break
		}
		if err := writeVersions(w, &first.items[0]); err != nil {
			return err
		}
		first.items = first.items[1:]
	}
	var unreadable unreadableError
	for i := range buckets {
		unreadable.records += buckets[i].unreadable
	}
	if unreadable.records > 0 {
		return &unreadable
	}
	return nil
}

func inOrder(a, b compliance.Key) int {
	return cmp.Or(cmp.Compare(a.Device, b.Device), cmp.Compare(a.Policy, b.Policy))
}

// bucketReader reads the records of a bucket.
type bucketReader struct {
	state      *store.Redis
	bucket     compliance.Bucket
	items      []store.Item
	cursor     string
	ended      bool
	unreadable int
}

// fill reads more, where nothing is left and there is more.
func (b *bucketReader) fill(ctx context.Context) error {
	for len(b.items) == 0 && !b.ended {
		ctx, cancel := context.WithTimeout(ctx, clientTimeout)
		page, err := b.state.List(ctx, store.Query{Bucket: &b.bucket}, b.cursor, mergedPage, time.Time{})
		cancel()
		if err != nil {
			return err
		}
		b.items, b.cursor, b.ended = page.Items, page.Next, page.Next == ""
		b.unreadable += page.Unreadable
	}
	return nil
}

// versioned is the value of a property and what it is compared by.
type versioned struct {
	Value     json.RawMessage `json:"value,omitempty"`
	Cleared   bool            `json:"cleared,omitempty"`
	EventTime string          `json:"eventTime"`
	EventHash string          `json:"eventHash"`
}

// writeVersions writes the line of a record.
func writeVersions(w io.Writer, item *store.Item) error {
	origins, err := recorded(item.Key, &item.Record)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, `{"policy":%q,"device":%q,"properties":{`, item.Key.Policy, item.Key.Device) // Ids need no escapes.
	comma := ""
	for _, o := range origins {
		if o.EventTime == "" {
			continue
		}
		v := versioned{Value: o.Value, EventTime: o.EventTime, EventHash: o.EventHash}
		if o.From == fromDeletion {
			v.Value, v.Cleared = nil, true
		}
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, `%s%q:%s`, comma, o.Property, text)
		comma = ","
	}
	_, err = fmt.Fprint(w, "}}\n")
	return err
}
