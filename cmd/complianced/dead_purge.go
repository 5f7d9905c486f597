package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/complianced/complianced/deadletter"
)

// maxDeletions is how many letters are deleted at once.
const maxDeletions = 64

func newDeadPurge(c *common) *cobra.Command {
	var h choice
	var yes bool
	cmd := &cobra.Command{
		Use:   "purge [SEQUENCE...]",
		Short: "Take dead letters away",
		Long: `Takes away the dead letters that are named, or that the flags say; without either, all of them, and
with them what else is in their stream. It asks first. Where there is no terminal to ask on,
nothing is taken away without --yes (exit status 2).

The state is not touched. Where it is built anew from the stream of the reports, a report that is
still refused is buried again.`,
		Example: `  complianced dead purge 12 13
  complianced dead purge --code malformedJson --until 2026-01-31
  complianced dead purge --yes`,
		Args: args(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := h.read(args); err != nil {
				return err
			}
			file, isFile := cmd.InOrStdin().(*os.File)
			if !yes && (!isFile || !isTerminal(file)) {
				return errNotConfirmed
			}
			nc, box, err := c.openDead(cmd.Context(), "dead purge")
			if err != nil {
				return err
			}
			defer nc.Close()
			unreadable := unreadables{w: cmd.ErrOrStderr()}
			sequences, err := h.toPurge(cmd.Context(), box, &unreadable)
			if err != nil {
				return err
			}
			if len(sequences) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "there is no such dead letter")
				return unreadable.err()
			}
			if !yes {
				if err := confirm(cmd.Context(), cmd.InOrStdin(), cmd.ErrOrStderr(), fmt.Sprintf("%d dead letters", len(sequences))); err != nil {
					return err
				}
			}
			return errors.Join(purge(cmd, box, sequences), unreadable.err())
		},
	}
	h.add(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// toPurge returns the sequences of what is meant. What is no dead letter is meant where it
// is named, or where everything is.
func (h *choice) toPurge(ctx context.Context, box *deadletter.Box, unreadable *unreadables) (sequences []uint64, err error) {
	for _, sequence := range h.sequences {
		_, err := getLetter(ctx, box, sequence)
		_, wrong := errors.AsType[*deadletter.UnreadableError](err)
		switch {
		case errors.Is(err, deadletter.ErrNotFound):
			return nil, fmt.Errorf("dead letter %d: %w; nothing was taken away", sequence, err)
		case err != nil && !wrong:
			return nil, err
		}
		sequences = append(sequences, sequence)
	}
	if len(sequences) > 0 {
		return sequences, nil
	}
	err = box.Each(ctx, h.filter, func(l deadletter.Letter, err error) error {
		if err != nil && h.filtered() && unreadable.told(err) {
			return nil
		}
		sequences = append(sequences, l.Sequence)
		return nil
	})
	return sequences, err
}

func purge(cmd *cobra.Command, box *deadletter.Box, sequences []uint64) error {
	p := newProgress(cmd.ErrOrStderr(), "purging", len(sequences), progressEvery)
	group, ctx := errgroup.WithContext(cmd.Context())
	group.SetLimit(maxDeletions)
	for _, sequence := range sequences {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			err := deleteLetter(ctx, box, sequence)
			if err == nil {
				p.add()
			}
			return err
		})
	}
	err := errors.Join(group.Wait(), cmd.Context().Err())
	p.end()
	n := p.done.Load()
	switch {
	case cmd.Context().Err() != nil:
		return fmt.Errorf("interrupted after %d dead letters: the same command takes the others away", n)
	case err != nil:
		return fmt.Errorf("%w; %d dead letters were taken away", err, n)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "took %d dead letters away\n", n)
	return err
}

func deleteLetter(ctx context.Context, box *deadletter.Box, sequence uint64) error {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	return box.Delete(ctx, sequence)
}
