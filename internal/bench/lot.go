package main

import (
	"fmt"
	"strings"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/internal/fleet"
)

// bareFields are the fields of the nine values, as short as those of a record.
var bareFields = [compliance.NumProperties]any{"i", "n", "u", "m", "p", "g", "s", "r", "e"}

func bareField(p compliance.Property) string { return fmt.Sprint(bareFields[p]) }

// bareKey has the length of a record's key.
func bareKey(layout compliance.Layout, key compliance.Key) string {
	return fmt.Sprintf("cs:{%02x}:%s:%s", int(layout.BucketOf(key.Device)), key.Policy, key.Device)
}

// lot are the commands of one task. They hold no pointers, so that the garbage
// collector of the bare work has nothing to do with what lies ready.
type lot struct {
	text string
	// shards are the commands of each connection, and shard is the one of each
	// report: a record keeps to one connection, so that its last value stays.
	shards [][]command
	shard  []uint8
}

// command is one HSET, as lengths of parts of the text: the key and the values.
type command struct {
	at     uint32
	key    uint16
	values [compliance.NumProperties]uint16
}

// notSet is the length of a value that the report does not set.
const notSet = 0xffff

// read returns a command's key and fields. The values are put into room, to which
// the fields point.
func (l *lot) read(c command, room *values, fields []any) (key string, all []any) {
	rest := l.text[c.at:]
	key, rest = rest[:c.key], rest[c.key:]
	for p, n := range c.values {
		if n == notSet {
			continue
		}
		room[p], rest = rest[:n], rest[n:]
		fields = append(fields, bareFields[p], &room[p])
	}
	return key, fields
}

// prepare makes the commands of a task.
func (w *bareWork) prepare(task BareTask) (*lot, error) {
	f, err := w.options.Load.fleet()
	if err != nil {
		return nil, err
	}
	l := &lot{shards: make([][]command, w.options.Settings.Connections)}
	var text strings.Builder
	f.Seek(task.From)
	for i := range task.Reports {
		var r fleet.Report
		if task.Create {
			r = f.At(task.From + uint64(i))
		} else {
			r = f.Next()
		}
		if err := l.add(&text, w.options.layout(), &r); err != nil {
			return nil, err
		}
	}
	l.text = text.String()
	return l, nil
}

func (l *lot) add(text *strings.Builder, layout compliance.Layout, r *fleet.Report) error {
	report, rejection := compliance.Decode(&compliance.Envelope{Subject: r.Subject, Body: r.Body, Stored: r.Time})
	if rejection != nil {
		return fmt.Errorf("%w: %s", errReport, rejection.Code())
	}
	key := bareKey(layout, r.Key)
	c := command{at: uint32(text.Len()), key: uint16(len(key))}
	text.WriteString(key)
	for p, value := range report.Values {
		c.values[p] = notSet
		if value.Kind == compliance.Text {
			c.values[p] = uint16(len(value.Text))
			text.WriteString(value.Text)
		}
	}
	shard := int(layout.BucketOf(r.Key.Device)) % len(l.shards)
	l.shards[shard] = append(l.shards[shard], c)
	l.shard = append(l.shard, uint8(shard))
	return nil
}
