package spool

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"time"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
)

// errChecksum says that an entry is not what was written.
var errChecksum = errors.New("the checksum does not fit")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// label is all of a report but its body.
type label struct {
	Policy      string              `json:"policy"`
	Device      string              `json:"device"`
	EventID     string              `json:"id,omitempty"`
	EventTime   time.Time           `json:"time,omitzero"`
	NoEventID   bool                `json:"noID,omitempty"`
	NoEventTime bool                `json:"noTime,omitempty"`
	Header      map[string][]string `json:"header,omitempty"`
}

// encode returns the value of an entry: a checksum of 4 bytes over key and
// content, then the content: the length of the label, the label as JSON, the
// body as it is.
func encode(key []byte, o publisher.Outgoing) ([]byte, error) {
	text, err := json.Marshal(label{
		Policy: o.Key.Policy, Device: o.Key.Device, EventID: o.EventID, EventTime: o.EventTime,
		NoEventID: o.NoEventID, NoEventTime: o.NoEventTime, Header: o.Header,
	})
	if err != nil {
		return nil, err
	}
	content := make([]byte, 0, binary.MaxVarintLen64+len(text)+len(o.Body))
	content = binary.AppendUvarint(content, uint64(len(text)))
	content = append(content, text...)
	return seal(key, append(content, o.Body...)), nil
}

func decode(key, value []byte) (publisher.Outgoing, error) {
	content, err := unseal(key, value)
	if err != nil {
		return publisher.Outgoing{}, err
	}
	size, n := binary.Uvarint(content)
	if n <= 0 || size > uint64(len(content)-n) {
		return publisher.Outgoing{}, errChecksum
	}
	text, body := content[n:n+int(size)], content[n+int(size):]
	var l label
	if err := json.Unmarshal(text, &l); err != nil {
		return publisher.Outgoing{}, errChecksum
	}
	return publisher.Outgoing{
		Key:  compliance.Key{Policy: l.Policy, Device: l.Device},
		Body: append([]byte(nil), body...), EventID: l.EventID, EventTime: l.EventTime,
		NoEventID: l.NoEventID, NoEventTime: l.NoEventTime, Header: l.Header,
	}, nil
}

// seal puts a checksum over key and content before the content.
func seal(key, content []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, content)
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(content)), sum), content...)
}

// unseal returns the content, a part of value.
func unseal(key, value []byte) ([]byte, error) {
	if len(value) < 4 {
		return nil, errChecksum
	}
	content := value[4:]
	if crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, content) != binary.BigEndian.Uint32(value) {
		return nil, errChecksum
	}
	return content, nil
}
