package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

// listing are the flags of list and export.
type listing struct {
	device   string
	statuses []string
	worst    string
	devices  bool
	inGrace  bool
	stale    bool
	since    string
	until    string
	limit    int
	cursor   string
	validity validity
}

func newList(c *common) *cobra.Command {
	var l listing
	var out output
	cmd := &cobra.Command{
		Use:   "list [POLICY]",
		Short: "List the records of a policy or of a device, or those that filters leave",
		Long: `Lists the records that all the filters leave which are given: those of a policy, of a device
(--device), of the devices whose worst status is a given one (--worst), with a reported status,
and so on. export lists all. With --devices each device is listed once, as compliance_devices
counts it: with its worst record.

The order is stable. Where more follows than --limit, the last line on standard error is the
cursor with which the same command goes on, also much later: it names a place in the order, so
that no record is listed twice or left out because others come and go. A record whose status
changes meanwhile may be listed with both or none of them.

With -o json each record is one line:
{"policy":"…","device":"…","effectiveStatus":"…","inGrace":false,"stale":false,"newestEvent":"…","record":{…}}
where record is the documented object. The effective status is stale, else inGracePeriod, else
the reported status.`,
		Example: `  complianced list my-policy --status nonCompliant --status error
  complianced list my-policy --in-grace --limit 1000 -o json
  complianced list --device my-device
  complianced list --devices --worst error
  complianced list my-policy --since 2026-01-31 --until 2026-01-31`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			q, err := l.query(args)
			if err != nil {
				return err
			}
			if q.All() {
				return usagef("list what? name a policy, a device or a filter, see %s --help; complianced export lists all records", cmd.CommandPath())
			}
			if asJSON {
				return c.list(cmd, &l, q, writeJSON)
			}
			return c.list(cmd, &l, q, writeTable)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&l.device, "device", "", "the records of this `device`")
	flags.StringSliceVar(&l.statuses, "status", nil, "the records with this reported `status`; several are one or the other")
	flags.StringVar(&l.worst, "worst", "", "the records of devices whose worst `status` is this one")
	flags.BoolVar(&l.devices, "devices", false, "each device once, with the first of its records that have its worst status")
	flags.BoolVar(&l.inGrace, "in-grace", false, "the nonCompliant records in their grace period")
	flags.BoolVar(&l.stale, "stale", false, "the records whose newest event is older than --validity")
	flags.StringVar(&l.since, "since", "", "the records whose newest event is not before this `time`, as 2026-01-31T12:00:00Z or 2026-01-31")
	flags.StringVar(&l.until, "until", "", "the records whose newest event is not after this `time`; of a day its end counts")
	flags.IntVar(&l.limit, "limit", 100, "at most so `many` records; 0 is all")
	l.addCommon(cmd)
	out.add(cmd)
	return cmd
}

func newExport(c *common) *cobra.Command {
	var l listing
	var versions bool
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write all records, one line of JSON each",
		Long: `Writes all records, one line of JSON each, in the form and order of list -o json. Where it breaks
off, it says with which --cursor the same command goes on.

With --versions each line has instead the properties that were ever set, with what two values of
one are compared by: the event time and the hash of the event id. One that a deletion cleared, and
no later report set, has "cleared":true in place of a value:
{"policy":"…","device":"…","properties":{"id":{"value":"…","eventTime":"…Z","eventHash":"…"},…}}
Lines are in the order of devices and then of policies, by their bytes. Equal records give equal
bytes, whatever led to them and however the deployment is laid out: compare two by sha256sum, while
nothing is reported. What is left of removed records is not exported.`,
		Example: `  complianced export > records.ndjson
  complianced export --versions | sha256sum`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := l.query(args)
			if err != nil {
				return err
			}
			if versions && l.cursor != "" {
				return usagef("--cursor does not go with --versions, which begins anew")
			}
			if versions {
				return c.exportVersions(cmd)
			}
			return c.list(cmd, &l, q, writeJSON)
		},
	}
	cmd.Flags().BoolVar(&versions, "versions", false, "the versions of the properties, in an order that depends on nothing else")
	l.addCommon(cmd)
	return cmd
}

func (l *listing) addCommon(cmd *cobra.Command) {
	cmd.Flags().StringVar(&l.cursor, "cursor", "", "go on after the page that ended with this `cursor`")
	l.validity.add(cmd)
}

// query is what the flags ask for.
func (l *listing) query(args []string) (q store.Query, err error) {
	if err := l.validity.validate(); err != nil {
		return q, err
	}
	q = store.Query{Device: l.device, Devices: l.devices, InGrace: l.inGrace, Stale: l.stale, Validity: l.validity.days}
	if len(args) > 0 {
		q.Policy = args[0]
		if !compliance.ValidID(q.Policy) {
			return q, usagef("a policy is an id of 1 to 128 characters of A-Z a-z 0-9 _ -")
		}
	}
	if q.Device != "" && !compliance.ValidID(q.Device) {
		return q, usagef("--device is an id of 1 to 128 characters of A-Z a-z 0-9 _ -")
	}
	if q.Devices && (q.Policy != "" || q.Device != "") {
		return q, usagef("--devices goes by all policies of all devices: leave POLICY and --device out")
	}
	if l.limit < 0 {
		return q, usagef("--limit is at least 0")
	}
	for _, name := range l.statuses {
		s, ok := compliance.ParseStatus(name)
		if !ok {
			return q, usagef("--status %q is no status: %v", name, compliance.Statuses())
		}
		q.Statuses = append(q.Statuses, s)
	}
	if l.worst != "" {
		s, ok := compliance.ParseStatus(l.worst)
		if !ok {
			return q, usagef("--worst %q is no status: %v", l.worst, compliance.Statuses())
		}
		q.Worst = &s
	}
	if q.Since, _, err = instants("since", l.since); err != nil {
		return q, err
	}
	if _, q.Until, err = instants("until", l.until); err != nil {
		return q, err
	}
	if !q.Until.IsZero() && q.Since.After(q.Until) {
		return q, usagef("--since lies after --until: there is nothing between them")
	}
	return q, nil
}

// instants returns the first and the last instant of what a flag names: a DateTimeOffset
// or a day in UTC. Both are zero where the flag is not given.
func instants(flag, text string) (first, last time.Time, err error) {
	if text == "" {
		return first, last, nil
	}
	if day, err := compliance.ParseDay(text); err == nil {
		return day.Start(), (day + 1).Start().Add(-1), nil
	}
	at, err := compliance.ParseDateTimeOffset(text)
	if err != nil {
		return first, last, usagef("--%s: %w; or a day as 2026-01-31", flag, err)
	}
	first = at.Ticks().Time()
	return first, first.Add(99), nil // Of a time in nanoseconds the tick counts.
}

// pageWriter writes the records of a page.
type pageWriter func(w io.Writer, items []store.Item, first bool, now time.Time, validity int) error

// list writes a list, page by page, and says how it goes on.
func (c *common) list(cmd *cobra.Command, l *listing, q store.Query, write pageWriter) error {
	state, err := c.openStore(cmd.Context())
	if err != nil {
		return err
	}
	defer state.Close() //nolint:errcheck // Nothing was written.
	out, now, first := bufio.NewWriter(cmd.OutOrStdout()), time.Now(), true
	next, err := eachPage(cmd.Context(), state, q, l.cursor, l.limit, now, func(items []store.Item) error {
		err := write(out, items, first, now, l.validity.days)
		first = false
		return errors.Join(err, out.Flush())
	})
	switch {
	case errors.Is(err, store.ErrCursor):
		return usagef("--cursor: %w", err)
	case next != "":
		fmt.Fprintf(cmd.ErrOrStderr(), "there is more; the same command goes on with --cursor %s\n", next)
	}
	return err
}

// openStore opens the state for a command that reads for as long as it takes.
func (c *common) openStore(ctx context.Context) (*store.Redis, error) {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	return c.clientStore(ctx)
}

// eachPage hands over the records of a list, some [store.MaxPage] at a time, until there
// are as many as wanted; 0 is all. At least once, it hands over what there is. It returns
// the cursor of what follows, also with an error; it is empty at the end of the list, or
// where nothing was read. Where records could not be read, the error at the end is
// [*unreadableError].
func eachPage(ctx context.Context, state *store.Redis, q store.Query, cursor string, limit int, now time.Time, take func([]store.Item) error) (string, error) {
	var some []store.Item
	var unreadable unreadableError
	taken := cursor
	for n := 0; ; {
		page, err := readPage(ctx, state, q, cursor, limit-n, now)
		if err != nil {
			if len(some) > 0 && take(some) == nil {
				taken = cursor
			}
			return taken, err
		}
		some, cursor = append(some, page.Items...), page.Next
		unreadable.records += page.Unreadable
		n += len(page.Items)
		last := cursor == "" || limit > 0 && n >= limit
		if !last && len(some) < store.MaxPage {
			continue
		}
		if err := take(some); err != nil {
			return taken, err
		}
		if last && unreadable.records > 0 {
			return cursor, &unreadable
		}
		if last {
			return cursor, nil
		}
		some, taken = nil, cursor
	}
}

// unreadableError says that a list came to its end without some of its records.
type unreadableError struct{ records int }

func (e *unreadableError) Error() string {
	return fmt.Sprintf("%d records cannot be read and are left out; complianced verify --repair has them merged again from the stream", e.records)
}

func readPage(ctx context.Context, state *store.Redis, q store.Query, cursor string, limit int, now time.Time) (store.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	return state.List(ctx, q, cursor, limit, now)
}

// listedRecord is a record as list -o json has it.
type listedRecord struct {
	Policy      string          `json:"policy"`
	Device      string          `json:"device"`
	Effective   string          `json:"effectiveStatus"`
	InGrace     bool            `json:"inGrace"`
	Stale       bool            `json:"stale"`
	NewestEvent string          `json:"newestEvent"`
	Record      json.RawMessage `json:"record"`
}

func writeJSON(w io.Writer, items []store.Item, _ bool, now time.Time, validity int) error {
	lines := json.NewEncoder(w)
	lines.SetEscapeHTML(false) // The documented object is to be the same everywhere.
	for _, item := range items {
		e := item.Facts.At(now, validity)
		line := listedRecord{
			Policy: item.Key.Policy, Device: item.Key.Device, Effective: e.Status, InGrace: e.InGrace, Stale: e.Stale,
			NewestEvent: newestEvent(item), Record: item.Record.JSON(item.Key.Device),
		}
		if err := lines.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

// writeTable writes a page as a table of its own; the first one has a heading.
func writeTable(w io.Writer, items []store.Item, first bool, now time.Time, validity int) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if first {
		fmt.Fprintln(table, "POLICY\tDEVICE\tSTATUS\tEFFECTIVE\tGRACE UNTIL\tNEWEST EVENT")
	}
	for _, item := range items {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", item.Key.Policy, item.Key.Device, item.Facts.Status,
			item.Facts.At(now, validity).Status, graceEnd(item.Facts), newestEvent(item))
	}
	return table.Flush()
}

func newestEvent(item store.Item) string {
	return compliance.FormatStored(item.Record.Newest().Time.Time())
}
