package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/complianced/complianced/store"
)

// findings prints differences as they are found, and keeps only their numbers: there
// may be as many as there are records.
type findings struct {
	out    *bufio.Writer // Its first error stays until the end.
	table  *tabwriter.Writer
	asJSON bool

	n, fromStreams, displaced int
}

func newFindings(w io.Writer, asJSON bool) *findings {
	f := &findings{out: bufio.NewWriter(w), asJSON: asJSON}
	f.table = tabwriter.NewWriter(f.out, 0, 0, 2, ' ', 0)
	if asJSON {
		_, _ = f.out.WriteString(`{"differences":[`)
	}
	return f
}

// rowsTogether is how many rows are laid out, and held back, together.
const rowsTogether = 1000

func (f *findings) add(d store.Difference) {
	f.n++
	if d.Kind == store.KindRecord {
		f.fromStreams++
	}
	if d.Kind == store.KindMisplaced || d.Kind == store.KindUnknown {
		f.displaced++
	}
	if f.asJSON {
		text, _ := json.Marshal(d) // It is all text.
		if f.n > 1 {
			_ = f.out.WriteByte(',')
		}
		_, _ = f.out.Write(text)
		return
	}
	if f.n == 1 {
		fmt.Fprintln(f.table, "BUCKET\tKIND\tPOLICY\tDEVICE\tOF\tWANT\tHAVE")
	}
	fmt.Fprintf(f.table, "%02x\t%s\t%s\t%s\t%s\t%s\t%s\n", int(d.Bucket), d.Kind, d.Policy, d.Device,
		plain(cmp.Or(d.Status, d.Day, d.Name)), plain(d.Want), plain(d.Have))
	if f.n%rowsTogether == 0 {
		_ = f.table.Flush()
	}
}

// end prints what was counted after the differences.
func (f *findings) end(v *verification) error {
	if f.asJSON {
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		fmt.Fprintf(f.out, "],%s\n", text[1:])
		return f.out.Flush()
	}
	_ = f.table.Flush()
	fmt.Fprintf(f.out, "%d records in %d buckets: %d differences", v.Records, v.layout.Buckets, f.n)
	if v.repair && f.n > 0 {
		fmt.Fprintf(f.out, ", %d of them put right", v.Mended)
	}
	if v.Incomplete {
		fmt.Fprint(f.out, ", until the check broke off")
	}
	fmt.Fprintln(f.out)
	if v.rebuild && !v.Incomplete {
		fmt.Fprintf(f.out, "%d records compared with the streams; of %d the streams do not hold every version", v.Compared, v.PassedOver)
		if v.LeftOut > 0 {
			fmt.Fprintf(f.out, "; %d are of policies outside --allow-policies", v.LeftOut)
		}
		fmt.Fprintln(f.out)
	}
	if f.displaced > 0 {
		fmt.Fprintf(f.out, "%d keys are out of place: nothing counts or deletes them; look at each, and delete it with redis-cli\n", f.displaced)
	}
	if n := len(v.Again); n > 0 {
		fmt.Fprintf(f.out, "%d buckets are merged again from the stream by complianced serve; run verify again when it is through\n", n)
	}
	return f.out.Flush()
}
