package store

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
	"github.com/zeebo/xxh3"

	"github.com/complianced/complianced/compliance"
)

// The seal of a bucket is a number that each transaction moves, in its first command,
// by the difference between its two write ids. So it is that of the floor's write id,
// as long as every transaction that Redis holds built on the one before.
//
// That is not so where Redis (7.0.15) loads an append-only file that was cut within a
// command of a MULTI: it keeps what stands between the MULTI and the cut, appends to
// that, does not run it, and runs it with the next EXEC when it loads the file once
// more. The bucket then has a part of a transaction that nobody built on, and its
// floor may be any. Whatever part it is, the seal tells: the bucket is torn.
//
// The records are then right where the transactions that came after the part wrote all
// that the part could have written. A transaction that is whole writes every field of
// the records that change: the next reports of a bucket, as far as one batch reaches,
// are merged by such ones wherever a transaction can have been lost. A record whose
// digest is not that of its values shows that one was not; its bucket is merged again.

// sealOf returns what the seal of a floor must be: below 2^52, so that the sum of many
// does not overflow.
func sealOf(f compliance.Floor) int64 {
	if f.Absent() {
		return 0
	}
	return int64(xxh3.HashString(f.Write) >> 12)
}

// farOff is beyond every sum that transactions can leave. What is as far off is no seal,
// and the difference to it could overflow.
const farOff = 1 << 62

// sealed is a floor with the seal beside it.
type sealed struct {
	compliance.Floor

	seal int64
	// there says that there is a seal, broken that it is no number.
	there, broken bool
}

// floorReply is the answer to askFloor.
type floorReply struct{ floor, seal *redis.StringCmd }

func askFloor(ctx context.Context, c redis.Cmdable, b compliance.Bucket) floorReply {
	return floorReply{c.Get(ctx, floorKey(b)), c.Get(ctx, sealKey(b))}
}

// read returns the floor, torn where the seal is not its own.
func (r floorReply) read() (sealed, error) {
	floor, err := readFloor(r.floor)
	if err != nil {
		return sealed{}, err
	}
	s := sealed{Floor: floor}
	text, err := r.seal.Result()
	switch {
	case errors.Is(err, redis.Nil):
		return s, nil
	case isWrongType(err):
		s.broken = true
	case err != nil:
		return sealed{}, err
	default:
		seal, err := strconv.ParseInt(text, 10, 64)
		if s.broken = err != nil || seal <= -farOff || seal >= farOff; !s.broken {
			s.seal, s.there = seal, true
		}
	}
	s.Torn = !s.Unreadable() && (s.broken || s.seal != sealOf(floor))
	return s, nil
}

// reseal moves the seal to that of the floor that a transaction leaves. It moves by a
// difference even in a recount: where the file has a part of a transaction before this
// one that was not run yet, the seal is to tell when it is.
func (s *sealed) reseal(ctx context.Context, pipe redis.Pipeliner, key string, tx *compliance.Transaction) {
	if s.broken {
		pipe.Del(ctx, key)
	}
	before := s.seal
	if s.there && !tx.Recount {
		before = sealOf(tx.From) // A bucket that is torn stays so until it is recounted.
	}
	pipe.IncrBy(ctx, key, sealOf(tx.To)-before)
}

// rewriting is what leads from the fields of a record to its one stored form.
type rewriting struct {
	name string
	set  []string
	gone []string
}

// rewrite returns what has to be written where the fields, read as fullFields, are not
// the stored form of the record.
func rewrite(name string, reply []any, r *compliance.Record) (w rewriting, differs bool) {
	w = rewriting{name: name, set: encode(r)}
	want := map[string]string{}
	for pair := range slices.Chunk(w.set, 2) {
		want[pair[0]] = pair[1]
	}
	for i, field := range fullFields {
		have, there := reply[i].(string)
		text, wanted := want[field]
		if there && !wanted {
			w.gone = append(w.gone, field)
		}
		differs = differs || there != wanted || have != text
	}
	return w, differs
}

func (w *rewriting) write(ctx context.Context, pipe redis.Pipeliner) {
	pipe.HSet(ctx, w.name, w.set)
	if len(w.gone) > 0 {
		pipe.HDel(ctx, w.name, w.gone...)
	}
}
