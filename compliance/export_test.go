package compliance

// Bodies reads a payload as Decode does, and by the JSON reader alone, where it is a
// plain one. The results are what each sets, and what is wrong with it.
func Bodies(payload []byte, device string) (plainly, byReader Body, isPlain bool) {
	if !new(plain).read(payload, string(payload)) {
		return Body{}, Body{}, false
	}
	key := Key{Policy: "policy", Device: device}
	one, other := decoding{report: Report{Key: key}}, decoding{report: Report{Key: key}}
	one.body(payload)
	b := bodyReader{decoding: &other, payload: string(payload)}
	b.all(payload)
	return bodyOf(&one), bodyOf(&other), true
}

// Body is what a payload was read as.
type Body struct {
	Report     Report
	Violations []Violation
	Reported   Ticks
	Has        bool
}

func bodyOf(d *decoding) Body { return Body{d.report, d.violations, d.reported, d.hasReported} }
