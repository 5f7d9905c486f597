package store

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// command is the memory of the arguments of a transaction's commands. They lie in one
// slice for all commands, and are pointers where they can be: what is boxed is
// allocated one by one, and this is where most transactions spend their time.
type command struct {
	args []any
	// texts holds the texts among them that are made for a transaction.
	texts texts
}

// from returns the arguments that were appended since there were start of them.
func (c *command) from(start int) []any { return c.args[start:len(c.args):len(c.args)] }

// begin appends the name of a command and its key. It returns what from wants.
func (c *command) begin(name string, key *string) (start int) {
	start = len(c.args)
	c.args = append(c.args, name, key)
	return start
}

// send puts the command into a pipeline, unless it has a key and nothing more. Its
// error is in that of the pipeline.
func (c *command) send(ctx context.Context, pipe redis.Pipeliner, start int) {
	if args := c.from(start); len(args) > 2 {
		_ = pipe.Process(ctx, redis.NewIntCmd(ctx, args...))
	}
}
