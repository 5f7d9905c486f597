package replay

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/complianced/complianced/compliance"
)

// Prediction says what a replay would do.
type Prediction struct {
	// Records returns the records of keys as they are now, in the order of the keys.
	Records func(context.Context, []compliance.Key) ([]compliance.Record, error)
	// Allow are the policies that the destination takes. Defaults to all.
	Allow compliance.Patterns
	// Each, where not nil, hears of each report what would become of it, and the code
	// where it would be rejected or fail.
	Each func(*Report, Outcome, string) error
	// Now is when the reports would be stored. Defaults to time.Now.
	Now func() time.Time
}

// predicted is how many reports are looked at at a time.
const predicted = 500

// Predict says by the merge law what a replay that waits for results would count, if
// nothing else reported meanwhile, and sends nothing. It holds every record that the
// reports are of: about 1 KiB each.
func Predict(ctx context.Context, source Source, p Prediction) (Table, error) {
	if p.Now == nil {
		p.Now = time.Now
	}
	var table Table
	records := map[compliance.Key]*compliance.Record{}
	for ended := false; !ended; {
		var reports []Report
		for len(reports) < predicted && !ended {
			r, err := source.Next(ctx)
			switch {
			case errors.Is(err, io.EOF):
				ended = true
			case err != nil:
				return table, err
			default:
				reports = append(reports, r)
			}
		}
		if err := p.some(ctx, reports, records, &table); err != nil {
			return table, err
		}
	}
	return table, nil
}

// foreseen is a report as it would come to a worker.
type foreseen struct {
	report  compliance.Report
	outcome Outcome
	code    string
}

func (p *Prediction) some(ctx context.Context, reports []Report, records map[compliance.Key]*compliance.Record, table *Table) error {
	list := make([]foreseen, len(reports))
	var missing []compliance.Key
	for i := range reports {
		list[i] = p.foresee(&reports[i])
		if key := list[i].report.Key; list[i].outcome == Accepted && records[key] == nil {
			records[key] = &compliance.Record{}
			missing = append(missing, key)
		}
	}
	if len(missing) > 0 {
		have, err := p.Records(ctx, missing)
		if err != nil {
			return err
		}
		for i, key := range missing {
			*records[key] = have[i]
		}
	}
	for i, f := range list {
		if f.outcome == Accepted {
			_, outcome := records[f.report.Key].Merge(&f.report)
			f.outcome = outcomeOf(outcome)
		}
		table.count(f.outcome)
		if p.Each == nil {
			continue
		}
		if err := p.Each(&reports[i], f.outcome, f.code); err != nil {
			return err
		}
	}
	return nil
}

// foresee decodes a report as it would be sent; accepted is one that would be merged.
func (p *Prediction) foresee(r *Report) foreseen {
	o, err := Resend(r)
	switch {
	case errors.Is(err, ErrRefused):
		_, rejection := r.decode(p.Allow)
		f := foreseen{outcome: Rejected}
		if rejection != nil {
			f.code = string(rejection.Code())
		}
		return f
	case err != nil:
		return foreseen{outcome: Failed, code: "unsendable"}
	}
	subject := o.Subject
	if subject == "" {
		subject = o.Key.Subject()
	}
	rules := compliance.Rules{Allow: p.Allow}
	report, rejection := rules.Decode(&compliance.Envelope{Subject: subject, Header: o.Header, Body: o.Body, Stored: p.Now()})
	if rejection != nil {
		return foreseen{outcome: Rejected, code: string(rejection.Code())}
	}
	return foreseen{report: report, outcome: Accepted}
}
