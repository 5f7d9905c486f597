package store

import (
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
)

// none ends a chain of reports.
const none = -1

// entry is a record in a transaction. Commands point into it until they are done.
type entry struct {
	key  compliance.Key
	name string
	// first and last are the places of its reports in the transaction.
	first, last int32
	// full says that all fields are read, not only the head.
	full bool
	// needsValues says that the head is not enough for what the reports do.
	needsValues bool
	head        *redis.StringCmd
	fields      *redis.SliceCmd

	old   compliance.Record
	new   compliance.Record
	moved compliance.PropertySet

	oldHead   string
	oldDigest digest
	newHead   string
}

// read takes the answer to ask. The error is errRecord where it is no record's.
func (e *entry) read() error {
	if !e.full {
		head, err := e.head.Result()
		if errors.Is(err, redis.Nil) {
			return nil
		}
		if err != nil {
			return err
		}
		e.oldHead = head
		e.oldDigest, err = decodeHead(&e.old, head)
		return err
	}
	fields, err := e.fields.Result()
	if err != nil {
		return err
	}
	e.oldHead, _ = fields[0].(string)
	e.old, err = decode(fields)
	return err
}
