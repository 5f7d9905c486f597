// Package compliancetest runs the test vectors of compliance/testdata/vectors:
// what is a right report, and what it says, as data. Every way into the program
// is held against the same vectors.
package compliancetest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
)

// Vector is one report and what decoding it gives.
type Vector struct {
	// Name is a sentence, unique among all vectors.
	Name string
	// Group is the file that the vector is in, without its extension.
	Group    string
	Rules    compliance.Rules
	Envelope compliance.Envelope
	Want     Want
}

// Want is what decoding a report gives: violations, or else what the report says.
type Want struct {
	Violations []Fault
	// Reply is the token that the result goes to, of a refused report too.
	Reply   string
	Version compliance.Version
	Removed bool
	// Values are those of the report. Of a deletion all nine are cleared.
	Values [compliance.NumProperties]compliance.Value
}

// Fault is the part of a violation that is fixed by the wire contract; messages
// may change.
type Fault struct {
	Code   compliance.Code
	Target string
}

// file is a vector as its file has it.
type file struct {
	Name       string              `json:"name"`
	Rules      rules               `json:"rules"`
	Subject    string              `json:"subject"`
	Headers    map[string][]string `json:"headers"`
	Body       *string             `json:"body"`
	BodyBase64 []byte              `json:"bodyBase64"`
	BodyParts  *parts              `json:"bodyParts"`
	Stored     string              `json:"stored"`
	Want       want                `json:"want"`
}

type rules struct {
	Partitions int                 `json:"partitions"`
	Partition  int                 `json:"partition"`
	Allow      compliance.Patterns `json:"allow"`
}

type parts struct {
	Prefix string `json:"prefix"`
	Repeat string `json:"repeat"`
	Count  int    `json:"count"`
	Suffix string `json:"suffix"`
}

type want struct {
	Violations []fault            `json:"violations"`
	Reply      string             `json:"reply"`
	Time       string             `json:"time"`
	ID         string             `json:"id"`
	Removed    bool               `json:"removed"`
	Set        map[string]*string `json:"set"`
}

type fault struct {
	Code   compliance.Code `json:"code"`
	Target string          `json:"target"`
}

// Vectors returns all vectors, in the order of their files' names. It finds the
// files from any package of this module.
func Vectors(tb testing.TB) []Vector {
	tb.Helper()
	paths, err := filepath.Glob(filepath.Join(Root(tb), "compliance", "testdata", "vectors", "*.json"))
	if err != nil || len(paths) == 0 {
		tb.Fatalf("no test vectors were found: %v", err)
	}
	var vectors []Vector
	seen := map[string]bool{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		var files []file
		if err := json.Unmarshal(text, &files, json.RejectUnknownMembers(true)); err != nil {
			tb.Fatalf("%s: %v", filepath.Base(path), err)
		}
		for _, f := range files {
			v, err := f.vector()
			if err != nil || f.Name == "" || seen[f.Name] {
				tb.Fatalf("%s: the vector %q is wrong or there twice: %v", filepath.Base(path), f.Name, err)
			}
			seen[f.Name] = true
			v.Group = strings.TrimSuffix(filepath.Base(path), ".json")
			vectors = append(vectors, v)
		}
	}
	return vectors
}

// Root returns the root folder of the module that the test runs in.
func Root(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			tb.Fatal("the test runs outside of a module")
		}
		dir = filepath.Dir(dir)
	}
}

func (f file) vector() (Vector, error) {
	stored, err := time.Parse(time.RFC3339Nano, f.Stored)
	if err != nil {
		return Vector{}, err
	}
	body, err := f.body()
	if err != nil {
		return Vector{}, err
	}
	want, err := f.Want.parse()
	return Vector{
		Name:     f.Name,
		Rules:    compliance.Rules(f.Rules),
		Envelope: compliance.Envelope{Subject: f.Subject, Header: f.Headers, Body: body, Sequence: 7, Stored: stored},
		Want:     want,
	}, err
}

func (f file) body() ([]byte, error) {
	switch {
	case f.BodyParts != nil:
		p := *f.BodyParts
		return []byte(p.Prefix + strings.Repeat(p.Repeat, p.Count) + p.Suffix), nil
	case f.BodyBase64 != nil:
		return f.BodyBase64, nil
	case f.Body != nil:
		return []byte(*f.Body), nil
	}
	return nil, errors.New("there is no body")
}

func (w want) parse() (Want, error) {
	got := Want{Reply: w.Reply, Removed: w.Removed}
	if len(w.Violations) > 0 {
		for _, v := range w.Violations {
			got.Violations = append(got.Violations, Fault(v))
		}
		return got, nil
	}
	ticks, err := strconv.ParseUint(w.Time, 10, 64)
	if err != nil {
		return Want{}, err
	}
	got.Version.Time = compliance.Ticks(ticks)
	if got.Version.ID, err = strconv.ParseUint(w.ID, 16, 64); err != nil {
		return Want{}, err
	}
	names := 0
	for i, p := range compliance.Properties() {
		text, set := w.Set[p.String()]
		switch {
		case w.Removed:
			got.Values[i] = compliance.Value{Kind: compliance.Cleared}
		case set && text == nil:
			got.Values[i] = compliance.Value{Kind: compliance.Null}
		case set:
			got.Values[i] = compliance.TextValue(*text)
		}
		if set {
			names++
		}
	}
	if names != len(w.Set) {
		return Want{}, errors.New("a property in set has no such name")
	}
	return got, nil
}

// Check reports where a decoded report or its rejection is not what the vector
// wants.
func (v Vector) Check(tb testing.TB, report compliance.Report, rejection *compliance.Rejection) {
	tb.Helper()
	if len(v.Want.Violations) > 0 {
		v.checkRejection(tb, report, rejection)
		return
	}
	if rejection != nil {
		tb.Fatalf("the report was refused: %v", Faults(rejection))
	}
	got := Want{Reply: report.Reply, Version: report.Version, Removed: report.Removed, Values: report.Values}
	if diff := cmp.Diff(v.Want, got); diff != "" {
		tb.Errorf("the report is another (-want +got):\n%s", diff)
	}
	if key, _, err := compliance.ParseSubject(v.Envelope.Subject); err != nil || report.Key != key {
		tb.Errorf("the report is of %v, want %v", report.Key, key)
	}
	if report.Sequence != v.Envelope.Sequence || !report.Stored.Equal(v.Envelope.Stored) {
		tb.Errorf("the report has place %d and store time %v", report.Sequence, report.Stored)
	}
}

func (v Vector) checkRejection(tb testing.TB, report compliance.Report, rejection *compliance.Rejection) {
	tb.Helper()
	if rejection == nil {
		tb.Fatalf("the report was taken; want %v", v.Want.Violations)
	}
	if diff := cmp.Diff(v.Want.Violations, Faults(rejection)); diff != "" {
		tb.Errorf("the violations are others (-want +got):\n%s", diff)
	}
	if rejection.Reply != v.Want.Reply || !rejection.Stored.Equal(v.Envelope.Stored) {
		tb.Errorf("the rejection has reply %q and store time %v", rejection.Reply, rejection.Stored)
	}
	if diff := cmp.Diff(compliance.Report{}, report); diff != "" {
		tb.Errorf("a refused report is not empty:\n%s", diff)
	}
	for _, violation := range rejection.Violations {
		if violation.Message == "" || violation.Offset < -1 || violation.Offset > len(v.Envelope.Body) ||
			!slices.Contains(compliance.Codes(), violation.Code) {
			tb.Errorf("a violation is not well formed: %+v", violation)
		}
	}
}

// Faults returns what the wire contract fixes of a rejection's violations.
func Faults(r *compliance.Rejection) []Fault {
	var faults []Fault
	for _, v := range r.Violations {
		faults = append(faults, Fault{Code: v.Code, Target: v.Target})
	}
	return faults
}
