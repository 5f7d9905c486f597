package compliance_test

import (
	"testing"

	"github.com/complianced/complianced/compliance"
)

func BenchmarkDecode(b *testing.B) {
	body := documented(b)
	for name, header := range map[string]map[string][]string{
		"no headers":  nil,
		"two headers": {"ce-id": {"6f1c2b1e-3a52-4b8f-9d0e-7a5b6c4d3e2f"}, "ce-time": {"2026-03-04T05:06:07.1234567Z"}},
	} {
		b.Run(name, func(b *testing.B) {
			e := envelope(string(body))
			e.Header = header
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, rejection := compliance.Decode(e); rejection != nil {
					b.Fatal(rejection)
				}
			}
		})
	}
}

func BenchmarkParseSubject(b *testing.B) {
	subject := compliance.Key{Policy: "c3d2b1a0-2760-a72b-6027-2ba760272ba7", Device: "a72b2760-2760-a72b-6027-2ba760272ba7"}.Subject()
	for b.Loop() {
		if _, _, err := compliance.ParseSubject(subject); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMerge(b *testing.B) {
	full := decode(b, envelope(string(documented(b))))
	for name, next := range map[string]func(r *compliance.Report){
		"each newer": func(r *compliance.Report) { r.Version.Time++ },
		"each again": func(*compliance.Report) {},
		"each older": func(r *compliance.Report) { r.Version.Time-- },
	} {
		b.Run(name, func(b *testing.B) {
			report := full
			var record compliance.Record
			record.Merge(&report)
			b.ReportAllocs()
			for b.Loop() {
				next(&report)
				record.Merge(&report)
			}
		})
	}
}

func BenchmarkRecordJSON(b *testing.B) {
	record := recordOf(b, string(documented(b)))
	b.ReportAllocs()
	for b.Loop() {
		record.JSON("a72b2760-2760-a72b-6027-2ba760272ba7")
	}
}
