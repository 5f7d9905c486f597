package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/deadletter"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/replay"
	"github.com/complianced/complianced/store"
)

// replayRun is one run of replay.
type replayRun struct {
	// common names the servers of the source, to those of the destination.
	common, to *common
	flags      *replaying
	filter     replay.Filter
	cmd        *cobra.Command
	asJSON     bool

	position replay.Position
	// kept is where the position is kept, in file.
	kept string
	file *replay.PositionFile
	// unkept says why the newest position is not kept.
	unkept error
	// unreadable are the messages that are no dead letters.
	unreadable unreadables
	// source is all that is read, of which there are so many at most; -1 is not known.
	source replay.Source
	total  int
	close  func()
}

func (s *replayRun) run(ctx context.Context) (err error) {
	s.unreadable.w = s.cmd.ErrOrStderr()
	if err := s.load(); err != nil {
		return err
	}
	defer func() {
		if s.file == nil {
			return
		}
		if failed := s.file.Close(); s.unkept == nil { // Else it is told already.
			err = errors.Join(err, failed)
		}
	}()
	if err := s.open(ctx); err != nil {
		return err
	}
	defer s.close()
	if s.flags.dryRun {
		return s.predict(ctx)
	}
	return s.send(ctx)
}

// load reads the position to go on from.
func (s *replayRun) load() error {
	of, err := s.words()
	if err != nil {
		return err
	}
	s.position = replay.Position{Of: of}
	if s.kept = s.flags.resume; s.kept == "" {
		return nil
	}
	before, err := s.keepIn(s.kept)
	switch {
	case errors.Is(err, replay.ErrPosition):
		return usagef("--resume %s: %w", s.kept, err)
	case errors.Is(err, replay.ErrInUse):
		return fmt.Errorf("--resume %s: %w", s.kept, err)
	case err != nil:
		return fmt.Errorf("--resume %s: %w; "+giveAnother, s.kept, err)
	case before.Of == "": // There is none yet.
		return nil
	case before.Of != of:
		return errors.Join(s.file.Close(),
			usagef("--resume %s is of another replay: give the same source, filters, order, servers and --wait, or another file", s.kept))
	}
	s.position = before
	return nil
}

const giveAnother = "give --resume a file that can be written"

// keepIn opens the file of the position.
func (s *replayRun) keepIn(path string) (before replay.Position, err error) {
	s.file, before, err = replay.OpenPosition(path)
	return before, err
}

// words say which replay this is.
func (s *replayRun) words() (string, error) {
	p := s.flags
	source := "stream"
	switch {
	case p.dead:
		source = "dead"
	case p.file == "-":
		source = "file"
	case p.file != "":
		path, err := filepath.Abs(p.file)
		if err != nil {
			return "", err
		}
		info, err := os.Stat(path)
		if err != nil {
			return "", usagef("--file: %w", err)
		}
		if !info.Mode().IsRegular() { // It is read twice.
			return "", usagef("--file %s is no file; give - and have it come from standard input", p.file)
		}
		source = fmt.Sprintf("file %s of %d bytes of %s", path, info.Size(), info.ModTime().UTC().Format(time.RFC3339Nano))
	}
	order := "in order"
	if p.shuffle {
		order = "shuffled by " + itoa(p.seed)
	}
	if p.wait { // The table of both runs has the rows of one.
		order += ", with results"
	}
	return strings.Join([]string{
		source, p.choose.words(), order,
		s.common.dataDir, withoutPassword(s.common.natsURL), p.to.dataDir, withoutPassword(p.to.natsURL),
	}, "; "), nil
}

// open opens the source.
func (s *replayRun) open(ctx context.Context) error {
	s.close, s.total = func() {}, -1
	if s.flags.file != "" {
		return s.openFile(ctx)
	}
	nc, err := s.patient(s.common)
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return err
	}
	var streams interface {
		replay.Source
		Bounds() map[string]replay.Bounds
		Total() uint64
		Close()
	}
	if s.flags.dead {
		streams, err = s.openDead(ctx, js)
	} else {
		streams, err = s.flags.choose.streams(ctx, js, s.position)
	}
	if err != nil {
		nc.Close()
		return explain(nc, err)
	}
	s.source, s.total, s.position.Bounds = streams, int(streams.Total()), streams.Bounds()
	s.close = func() {
		streams.Close()
		nc.Close()
	}
	return nil
}

func (s *replayRun) openDead(ctx context.Context, js jetstream.JetStream) (*replay.Dead, error) {
	since, until, err := s.flags.choose.times()
	if err != nil {
		return nil, err
	}
	of := deadletter.Filter{Codes: s.filter.Codes, Policy: s.filter.Policy, Device: s.filter.Device, Since: since, Until: until}
	s.filter = replay.Filter{} // The letters say more of their reports than is left of these.
	return replay.OpenDead(ctx, js, of, s.position, func(err error) { s.unreadable.told(err) })
}

func (s *replayRun) openFile(ctx context.Context) (err error) {
	if s.flags.file != "-" {
		if s.total, err = countReports(ctx, s.flags.file); err != nil {
			return err
		}
	}
	file, err := openFile(ctx, s.flags.file, s.cmd.InOrStdin())
	if err != nil {
		return err
	}
	s.source, s.close = replay.NewFile(file), func() { _ = file.Close() }
	return nil
}

// patient connects to NATS and goes on trying where that is away later.
func (s *replayRun) patient(to *common) (*nats.Conn, error) {
	log, err := s.common.logger(s.cmd.ErrOrStderr())
	if err != nil {
		return nil, err
	}
	return to.patientNATS("replay", log)
}

// ordered is the source with the filter and the order, each report that is left out
// being told.
func (s *replayRun) ordered(leftOut func()) replay.Source {
	filtered := &replay.Filtered{Source: s.source, Filter: s.filter, Seen: func(taken bool) {
		if !taken {
			leftOut()
		}
	}}
	if s.flags.shuffle {
		return replay.Shuffle(filtered, s.flags.seed, replay.Window)
	}
	return filtered
}

// predict says what would become of the reports.
func (s *replayRun) predict(ctx context.Context) error {
	state, err := s.to.openStore(ctx)
	if err != nil {
		return err
	}
	defer state.Close() //nolint:errcheck // Nothing was written.
	told := newRateProgress(s.cmd.ErrOrStderr(), "looking at reports", s.total, progressEvery)
	p := replay.Prediction{Records: state.Records, Allow: s.flags.choose.allow}
	p.Each = func(r *replay.Report, o replay.Outcome, code string) error {
		told.add()
		if s.flags.each {
			return s.printEach(r, o, code)
		}
		return nil
	}
	table, err := replay.Predict(ctx, s.ordered(told.add), p)
	told.end()
	if ctx.Err() != nil {
		err = errors.New("interrupted; these are the reports that were looked at until then")
	}
	return errors.Join(s.end(table, err), s.leftOut(err))
}

// leftOut is an error where the source had more than was handed over, when that ended with
// err.
func (s *replayRun) leftOut(err error) error {
	gone := goneMeanwhile(s.source)
	if err != nil { // More may follow.
		return gone
	}
	return errors.Join(gone, s.unreadable.err())
}

// send sends the reports.
func (s *replayRun) send(ctx context.Context) error {
	_ = yieldProcessor() // Where it fails, the replay is as right.
	nc, err := s.patient(s.to)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	layout, err := layoutOf(ctx, js)
	if err != nil {
		return explain(nc, err)
	}
	sender, err := publisher.New(nc, publisher.Options{})
	if err != nil {
		return err
	}
	defer sender.Close()
	if err := s.keep(); err != nil {
		return err
	}
	o := replay.Options{
		Rate: s.flags.rate, ResultTimeout: s.flags.timeout, From: s.position,
		Save: func(p replay.Position) error {
			s.unkept = s.file.Save(p)
			return s.unkept
		},
	}
	if s.flags.wait {
		o.Results = nc
	}
	if state, err := s.to.openStore(ctx); err != nil {
		fmt.Fprintf(s.cmd.ErrOrStderr(), "only --rate bounds the replay, because the Redis of the destination is not known: %v\n", err)
	} else {
		defer state.Close() //nolint:errcheck // Nothing was written.
		o.Lag = lagOf(js, state, layout)
	}
	before := s.before()
	told := newRateProgress(s.cmd.ErrOrStderr(), "replaying", s.total, progressEvery)
	told.from(before)
	o.Passed = told.add
	table, err := replay.Run(ctx, s.ordered(told.add), sender, o)
	told.end()
	if err != nil {
		return errors.Join(s.end(table, s.interrupted(ctx, explain(nc, err))), s.leftOut(err))
	}
	return errors.Join(s.end(table, nil), s.leftOut(nil), s.file.Remove())
}

// goneMeanwhile is an error where the streams have lost reports before these were read.
func goneMeanwhile(source replay.Source) error {
	streams, ok := source.(*replay.Streams)
	if !ok || streams.Gone() == 0 {
		return nil
	}
	return fmt.Errorf("the stream has lost %d reports before they were read: they were older than its --max-age by then", streams.Gone())
}

// before is how many reports are passed that the source does not count any more.
func (s *replayRun) before() int {
	if s.total < 0 || s.position.ByNumber() {
		return int(s.position.Passed)
	}
	s.total += int(s.position.Passed)
	return int(s.position.Passed)
}

func layoutOf(ctx context.Context, js jetstream.JetStream) (compliance.Layout, error) {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	return ingest.ReadLayout(ctx, js)
}

// keep makes the file of the position, and says how to go on by it.
func (s *replayRun) keep() error {
	if s.kept == "" {
		dir, err := s.common.dir()
		if err == nil {
			err = os.MkdirAll(dir, 0o700)
		}
		if err == nil {
			s.kept = filepath.Join(dir, "replay-"+time.Now().UTC().Format("20060102T150405.000")+".json")
			_, err = s.keepIn(s.kept)
		}
		if err != nil {
			return fmt.Errorf("%w; "+giveAnother, err)
		}
	}
	if err := s.file.Save(s.position); err != nil {
		return fmt.Errorf("%w; "+giveAnother, err)
	}
	if s.position.Passed > 0 {
		fmt.Fprintf(s.cmd.ErrOrStderr(), "going on after %d reports\n", s.position.Passed)
	}
	fmt.Fprintf(s.cmd.ErrOrStderr(), "if this is interrupted, go on with: %s\n", s.again())
	return nil
}

// interrupted says how to go on.
func (s *replayRun) interrupted(ctx context.Context, err error) error {
	switch {
	case ctx.Err() == nil || !errors.Is(err, context.Canceled):
		return fmt.Errorf("%w; when the cause is gone, go on with: %s", err, s.again())
	case s.unkept != nil:
		return fmt.Errorf("interrupted, and some reports more will be sent again: %w; go on with: %s", s.unkept, s.again())
	}
	return fmt.Errorf("interrupted; go on with: %s", s.again())
}

// again is the command line that goes on.
func (s *replayRun) again() string {
	words := []string{s.cmd.CommandPath()}
	s.cmd.Flags().Visit(func(f *pflag.Flag) {
		value := f.Value.String()
		if several, ok := f.Value.(pflag.SliceValue); ok {
			value = strings.Join(several.GetSlice(), ",")
		}
		switch {
		case f.Name == "resume":
		case f.Value.Type() == "bool" && value == "true":
			words = append(words, "--"+f.Name)
		default:
			words = append(words, "--"+f.Name+"="+quoted(value))
		}
	})
	return strings.Join(append(words, "--resume="+quoted(s.kept)), " ")
}

// quoted is a word as a shell takes it.
func quoted(word string) string {
	plainWord := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_./:,@%+=", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plainWord(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// lagOf returns how far the workers of a deployment are behind.
func lagOf(js jetstream.JetStream, state *store.Redis, layout compliance.Layout) func(context.Context) (time.Duration, error) {
	reader := &stateReader{js: js, store: state, layout: layout}
	return func(ctx context.Context) (worst time.Duration, err error) {
		ctx, cancel := context.WithTimeout(ctx, natsTimeout)
		defer cancel()
		for n := range layout.Partitions {
			_, lowest, err := reader.partition(ctx, n)
			if err != nil {
				return 0, err
			}
			lag, err := reader.lag(ctx, n, lowest)
			if err != nil {
				return 0, err
			}
			worst = max(worst, lag.Age)
		}
		return worst, nil
	}
}
