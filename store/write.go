package store

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
)

// write sends the transaction. Nothing in it can fail unless a key is corrupt.
func (a *application) write(ctx context.Context, tx *redis.Tx) error {
	pipe := tx.TxPipeline()
	a.have.reseal(ctx, pipe, a.keys.seal, &a.tx)
	if a.tx.Recount {
		a.found.write(ctx, pipe, &a.keys)
	}
	for i := range a.entries {
		a.writeRecord(ctx, pipe, &a.entries[i])
	}
	if !a.tx.Recount {
		a.changes.write(ctx, pipe, &a.command)
	}
	if a.tx.Accept {
		pipe.Del(ctx, a.keys.gaps)
	}
	for _, gap := range a.tx.Gaps {
		pipe.HSet(ctx, a.keys.gaps, gapField(gap), compliance.FormatStored(gap.Seen))
	}
	floor := pipe.Set(ctx, a.keys.floor, formatFloor(a.tx.To), 0)
	cmds, err := pipe.Exec(ctx)
	switch {
	case err == nil || errors.Is(err, redis.TxFailedErr):
		return err
	case redis.IsExecAbortError(err):
		return refusal(cmds, err)
	case floor.Val() != "":
		// The floor has moved past a command that the server refused within EXEC.
		return &compliance.CorruptError{Bucket: a.tx.Bucket, What: "a key that the transaction wrote"}
	}
	return err
}

// refusal returns why the server did not take a command into the transaction; the
// answer to EXEC itself only says that there was such a command.
func refusal(cmds []redis.Cmder, aborted error) error {
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !redis.IsExecAbortError(err) {
			return err
		}
	}
	return aborted
}

// writeRecord leads from the old stored form to the new one.
func (a *application) writeRecord(ctx context.Context, pipe redis.Pipeliner, e *entry) {
	switch {
	case e.first != none && e.old == e.new:
	case e.new.Empty():
		pipe.Del(ctx, e.name)
		pipe.ZRem(ctx, a.keys.tombstones, member(e.key))
	case e.new.Tombstone():
		if e.old.Exists() {
			pipe.Del(ctx, e.name)
		}
		pipe.HSet(ctx, e.name, encode(&e.new))
		pipe.ZAdd(ctx, a.keys.tombstones, redis.Z{Score: float64(e.new.StoredMillis), Member: member(e.key)})
	case e.first == none:
		pipe.ZRem(ctx, a.keys.tombstones, member(e.key)) // The index names a record that lives.
	case e.old.Exists():
		a.update(ctx, pipe, e)
	default:
		if e.old.Tombstone() {
			pipe.ZRem(ctx, a.keys.tombstones, member(e.key))
		}
		writeNew(ctx, pipe, e.name, &e.new)
	}
}

// update writes what moved in a record that lives.
func (a *application) update(ctx context.Context, pipe redis.Pipeliner, e *entry) {
	digest := e.oldDigest
	if e.full || e.moved&describedSet != 0 {
		digest = digestOf(&e.new)
	}
	repeated := !e.full && digest == e.oldDigest
	var buffer [maxHead]byte
	head := appendHead(buffer[:0], &e.new, digest)
	start := a.begin("hset", &e.name)
	if a.whole || string(head) != e.oldHead {
		e.newHead = a.texts.text(head)
		a.args = append(a.args, fieldHead, &e.newHead)
	}
	var gone []string
	for _, p := range valueOrder {
		if !a.whole && (!e.moved.Has(p) || repeated && describedSet.Has(p)) {
			continue
		}
		if text := storedValue(&e.new.Values[p]); text != nil {
			a.args = append(a.args, &valueFields[p], text)
		} else {
			a.args = append(a.args, &valueFields[p], &nullText) // As in writeNew.
			gone = append(gone, valueFields[p])
		}
	}
	a.send(ctx, pipe, start)
	if len(gone) > 0 {
		pipe.HDel(ctx, e.name, gone...)
	}
}

// writeNew writes a record in the place of a tombstone or of none. Values that were
// cleared are set and taken away, as Redis keeps no command in its append-only file that
// changed nothing: there a part of a transaction can stand before this one that sets
// them. The head comes last, so that no part of this one is a record.
func writeNew(ctx context.Context, pipe redis.Pipeliner, name string, r *compliance.Record) {
	var cleared, set []string
	for _, p := range valueOrder {
		if r.Values[p].Kind == compliance.Cleared {
			cleared = append(cleared, valueFields[p])
			set = append(set, valueFields[p], nullText)
		}
	}
	if len(cleared) > 0 {
		pipe.HSet(ctx, name, set)
		pipe.HDel(ctx, name, cleared...)
	}
	pipe.HSet(ctx, name, encode(r))
}
