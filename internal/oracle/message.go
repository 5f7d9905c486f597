package oracle

import (
	"cmp"
	"slices"
	"time"
)

// Message is one message as a stream held it.
type Message struct {
	// Stream is the name of the stream and Created when it was created: a stream
	// that was deleted and made anew is another one under the same name.
	Stream  string
	Created time.Time
	// Sequence and Stored are the message's number and the server's time stamp.
	// After a rollback of the stream a number can come again with another time.
	Sequence uint64
	Stored   time.Time
	Subject  string
	Header   map[string][]string
	Body     []byte
}

// End is where a stream ends at present.
type End struct {
	Stream  string
	Created time.Time
	// Sequence and Stored are of the last message, whether or not it is still
	// there. Sequence is 0 where there never was one.
	Sequence uint64
	Stored   time.Time
}

// Gap is a range of sequences that some buckets never got to see.
type Gap struct {
	Stream      string
	First, Last uint64
	// Buckets are those that have the gap. Defaults to all of the stream's partition.
	Buckets []int
}

// History is all that streams held, and where they end.
type History struct {
	Messages []Message
	// Ends has one entry a stream. Where a stream has none, its end is the last
	// message of its newest creation.
	Ends []End
}

// ends returns the end of each stream by its name.
func (h History) ends() map[string]End {
	ends := map[string]End{}
	for _, m := range h.Messages {
		last, known := ends[m.Stream]
		if !known || inSequence(m, Message{Created: last.Created, Sequence: last.Sequence, Stored: last.Stored}) > 0 {
			ends[m.Stream] = End{Stream: m.Stream, Created: m.Created, Sequence: m.Sequence, Stored: m.Stored}
		}
	}
	for _, end := range h.Ends {
		ends[end.Stream] = end
	}
	return ends
}

// inSequence orders the messages of one stream as they were stored.
func inSequence(a, b Message) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Sequence, b.Sequence), a.Stored.Compare(b.Stored))
}

// covers reports whether a message lies in the gap of a bucket.
func (g Gap) covers(m Message, end End, bucket int) bool {
	return g.Stream == m.Stream && m.Created.Equal(end.Created) && g.First <= m.Sequence && m.Sequence <= g.Last && g.concerns(bucket)
}

func (g Gap) concerns(bucket int) bool {
	return len(g.Buckets) == 0 || slices.Contains(g.Buckets, bucket)
}
