package fleet

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
)

// Entry is a line of a journal: a report that was accepted. A report that was sent
// twice has two entries, with the same id and different sequences.
type Entry struct {
	// Stream and Sequence say where the report is stored.
	Stream   string `json:"stream"`
	Sequence uint64 `json:"sequence"`
	// ID is the event id, Time the event time as the header ce-time has it.
	ID      string `json:"id"`
	Time    string `json:"time"`
	Subject string `json:"subject"`
}

// journal writes entries as JSON, one a line. A nil journal writes nothing.
type journal struct{ buffer *bufio.Writer }

func newJournal(w io.Writer) *journal {
	if w == nil {
		return nil
	}
	return &journal{bufio.NewWriterSize(w, 64<<10)}
}

func (j *journal) write(e Entry) error {
	if j == nil {
		return nil
	}
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if _, err := j.buffer.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

func (j *journal) flush() error {
	if j == nil {
		return nil
	}
	if err := j.buffer.Flush(); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// ReadJournal returns the entries of a journal, one by one. A last line without an
// end is left out: a load that was killed may leave it. An error ends it; it is of
// reading, or of a line that is no entry.
func ReadJournal(r io.Reader) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		lines := bufio.NewReaderSize(r, 64<<10)
		for n := 1; ; n++ {
			line, err := lines.ReadBytes('\n')
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(Entry{}, fmt.Errorf("read journal: %w", err))
				return
			}
			entry, err := readEntry(line)
			if err != nil {
				yield(Entry{}, fmt.Errorf("read journal: line %d: %w", n, err))
				return
			}
			if !yield(entry, nil) {
				return
			}
		}
	}
}

var errEntry = errors.New("stream, sequence or id is missing")

func readEntry(line []byte) (Entry, error) {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	var e Entry
	if err := decoder.Decode(&e); err != nil {
		return Entry{}, err
	}
	if e.Stream == "" || e.Sequence == 0 || e.ID == "" {
		return Entry{}, errEntry
	}
	return e, nil
}
