package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

// Intervals of the demo's table.
const (
	redraw     = 2 * time.Second
	redrawPipe = 10 * time.Second
)

func newDemo(c *common) *cobra.Command {
	s := &server{common: c}
	l := &load{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run everything here, with a simulated fleet: the first thing to try",
		Long: `Runs serve on embedded servers, with a simulated fleet that reports to it. Their data is in the
folder demo of --data-dir, which starts empty each time.`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.natsURL != "" || len(c.redisURL) > 0 {
				return usagef("demo runs its own servers; use serve and simulate with --nats-url and --redis-url")
			}
			if err := l.validate(); err != nil {
				return err
			}
			log, err := c.logger(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			dir, err := c.dir()
			if err != nil {
				return err
			}
			dir = filepath.Join(dir, "demo") // It is emptied: never a folder that the user named.
			return s.run(cmd.Context(), log, dir, true, func(ctx context.Context, found addresses) error {
				welcome(cmd.OutOrStdout(), dir, found)
				return s.show(ctx, cmd.OutOrStdout(), log, l)
			})
		},
	}
	s.add(cmd)
	l.add(cmd)
	return cmd
}

func welcome(w io.Writer, dir string, found addresses) {
	fmt.Fprintf(w, `complianced is running with a simulated fleet. Stop it with Ctrl-C.

  metrics   http://%[1]s/metrics
  health    http://%[1]s/readyz
  NATS      %[2]s
  counts    complianced --data-dir %[3]s summary
  report    echo '{"status":"nonCompliant"}' | complianced --data-dir %[3]s publish my-policy my-device
  record    complianced --data-dir %[3]s get my-policy my-device
  devices   complianced --data-dir %[3]s list --devices --worst error
  HTTP API  %[4]s

%[5]s
`, found.Metrics, found.NATS, dir, found.HTTP, curl(dir, found))
}

// show runs the fleet and prints the counts, over and over on a terminal.
func (s *server) show(ctx context.Context, w io.Writer, log *slog.Logger, l *load) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		_, err := l.run(ctx, s.nats, log)
		return quiet(ctx, err)
	})
	terminal := isTerminal(os.Stdout)
	every := redraw
	if !terminal {
		every = redrawPipe
	}
	group.Go(func() error {
		lines := 0
		for wait(ctx, time.Second); ctx.Err() == nil; wait(ctx, every) {
			totals, err := s.store.Totals(ctx, time.Now(), s.validity.days)
			if err != nil {
				log.WarnContext(ctx, "the counts cannot be read", slog.Any("error", err))
				continue
			}
			if terminal && lines > 0 {
				fmt.Fprintf(w, "\x1b[%dA\x1b[J", lines)
			}
			if lines, err = printTotals(w, &totals); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}
