package oracle

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// batchSize is how many messages are asked for at once.
const batchSize = 1000

// reader reads the messages of one stream.
type reader struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	stream string
}

// readEnd returns where the stream ends at present.
func (r reader) readEnd(ctx context.Context) (End, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stream, err := r.js.Stream(ctx, r.stream)
	if err != nil {
		return End{}, fmt.Errorf("stream %s: %w", r.stream, err)
	}
	info := stream.CachedInfo()
	end := End{Stream: r.stream, Created: info.Created, Sequence: info.State.LastSeq}
	if end.Sequence > 0 {
		end.Stored = info.State.LastTime
	}
	return end, nil
}

// readFrom returns messages from the one at a place on. None but the one at that
// place means that the stream holds no more.
func (r reader) readFrom(ctx context.Context, at End) ([]Message, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	messages, err := r.readBatch(ctx, max(at.Sequence, 1))
	if err != nil || len(messages) > 0 && messages[len(messages)-1].Sequence > at.Sequence {
		return messages, err
	}
	// A direct get is answered by any replica, also by one that is behind, and its
	// answers cannot be read where a header is no header. The leader has the word.
	next, there, err := r.readNext(ctx, at.Sequence+1)
	if err == nil && there {
		messages = append(messages, next)
	}
	return messages, err
}

// readBatch returns the messages that one direct get gives, up to the first of
// which the header cannot be read.
func (r reader) readBatch(ctx context.Context, first uint64) ([]Message, error) {
	// A channel, because the driver's NextMsg takes a message without a body for
	// an answer of the server where its publisher gave it the header Status.
	answers := make(chan *nats.Msg, batchSize+1)
	inbox := r.nc.NewInbox()
	sub, err := r.nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, fmt.Errorf("batch of %s: %w", r.stream, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	request := fmt.Sprintf(`{"seq":%d,"batch":%d}`, first, batchSize)
	if err := r.nc.PublishRequest("$JS.API.DIRECT.GET."+r.stream, inbox, []byte(request)); err != nil {
		return nil, fmt.Errorf("batch of %s: %w", r.stream, err)
	}
	var messages []Message
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("batch of %s: %w", r.stream, ctx.Err())
		case m := <-answers:
			message, ok := r.direct(m)
			if !ok {
				return messages, refusal(m)
			}
			messages = append(messages, message)
		}
	}
}

// refusal tells the end of a batch and an empty one from an error.
func refusal(m *nats.Msg) error {
	switch status := m.Header.Get("Status"); status {
	case "", "204", "404":
		return nil
	default:
		return fmt.Errorf("direct get: status %s %s", status, m.Header.Get("Description"))
	}
}

// direct returns the message in an answer to a direct get; false where there is
// none. The server appends headers of its own after those of the message.
func (r reader) direct(m *nats.Msg) (Message, bool) {
	sequence, err := strconv.ParseUint(takeLast(m.Header, "Nats-Sequence"), 10, 64)
	if err != nil {
		return Message{}, false
	}
	stored, err := time.Parse(time.RFC3339Nano, takeLast(m.Header, "Nats-Time-Stamp"))
	if err != nil {
		return Message{}, false
	}
	subject := takeLast(m.Header, "Nats-Subject")
	for _, name := range []string{"Nats-Stream", "Nats-Num-Pending", "Nats-Last-Sequence"} {
		takeLast(m.Header, name)
	}
	return Message{Stream: r.stream, Sequence: sequence, Stored: stored, Subject: subject, Header: m.Header, Body: m.Data}, true
}

// takeLast removes the last value of a header and returns it. A message may have
// headers of the same name before it.
func takeLast(header nats.Header, name string) string {
	values := header[name]
	if len(values) == 0 {
		return ""
	}
	last := len(values) - 1
	if header[name] = values[:last]; last == 0 {
		delete(header, name)
	}
	return values[last]
}

// readNext asks the leader for the first message from a sequence on. It is false
// where there is none.
func (r reader) readNext(ctx context.Context, first uint64) (Message, bool, error) {
	request := fmt.Sprintf(`{"seq":%d,"next_by_subj":">"}`, first)
	m, err := r.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+r.stream, []byte(request))
	if err != nil {
		return Message{}, false, fmt.Errorf("message of %s: %w", r.stream, err)
	}
	answer, ok := parseJSON(m.Data)
	if fault := answer.member("error"); fault.kind == jsonObject {
		if fault.member("code").text == "404" {
			return Message{}, false, nil
		}
		return Message{}, false, fmt.Errorf("message of %s: %s", r.stream, fault.member("description").text)
	}
	if !ok {
		return Message{}, false, errors.New("message of " + r.stream + ": the answer is no JSON")
	}
	message, err := r.stored(answer.member("message"))
	return message, err == nil, err
}

// stored reads a message as the leader gives it. A header that is none is left
// out, as the driver does.
func (r reader) stored(n node) (Message, error) {
	sequence, errSequence := strconv.ParseUint(n.member("seq").text, 10, 64)
	at, errTime := time.Parse(time.RFC3339Nano, n.member("time").text)
	body, errBody := base64.StdEncoding.DecodeString(n.member("data").text)
	raw, errHeader := base64.StdEncoding.DecodeString(n.member("hdrs").text)
	m := Message{Stream: r.stream, Sequence: sequence, Stored: at, Subject: n.member("subject").text, Body: body}
	if header, err := nats.DecodeHeadersMsg(raw); len(raw) > 0 && err == nil {
		m.Header = header
	}
	if err := errors.Join(errSequence, errTime, errBody, errHeader); err != nil {
		return Message{}, fmt.Errorf("message of %s: %w", r.stream, err)
	}
	return m, nil
}
