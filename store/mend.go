package store

import (
	"context"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
)

// mend writes what entries must hold, and takes away what is no record.
func (v *view) mend(ctx context.Context, pipe redis.Pipeliner, wrong []entryID) {
	for p, broken := range v.broken {
		if broken {
			pipe.Del(ctx, v.keys.part(part(p)))
			v.want.each(part(p), func(name string) { wrong = append(wrong, entryID{part(p), name}) })
		}
	}
	for _, e := range wrong {
		if e.part == partRecords {
			key, _ := parseMember(e.name)
			pipe.Del(ctx, v.keys.recordName(key))
			continue
		}
		key, text := v.keys.part(e.part), v.wanted(e)
		switch {
		case e.part.isHash() && text == "":
			pipe.HDel(ctx, key, e.name)
		case e.part.isHash():
			pipe.HSet(ctx, key, e.name, text)
		case text == "":
			pipe.ZRem(ctx, key, e.name)
		default:
			score, _ := strconv.ParseInt(text, 10, 64)
			pipe.ZAdd(ctx, key, redis.Z{Score: float64(score), Member: e.name})
		}
	}
}

// mended takes over what mend has written.
func (v *view) mended(wrong []entryID) {
	for p, broken := range v.broken {
		if broken {
			v.broken[p] = false
			clear(v.live[p])
			v.want.each(part(p), func(name string) { wrong = append(wrong, entryID{part(p), name}) })
		}
	}
	for _, e := range wrong {
		if e.part == partRecords {
			key, _ := parseMember(e.name)
			v.set(key, &compliance.Record{}, false)
			continue
		}
		text := v.wanted(e)
		v.note(e, text, text != "")
	}
}
