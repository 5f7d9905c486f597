package replay

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxLine is the longest line of a file, in bytes: a report of 64 KiB of which every
// byte is escaped is well below.
const maxLine = 1 << 20

// File is a source on a file that [Writer] wrote: a line with the version, then one
// line of JSON for each report.
type File struct {
	lines *bufio.Reader
	n     int
}

// NewFile returns a source that reads a file from its beginning.
func NewFile(r io.Reader) *File { return &File{lines: bufio.NewReaderSize(r, maxLine)} }

// LineError says which line of a file is wrong. It holds nothing of the line.
type LineError struct {
	// Line is its number, from 1.
	Line int
	Err  error
}

// Error names the line.
func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns Err.
func (e *LineError) Unwrap() error { return e.Err }

var (
	errTorn    = errors.New("the line is cut off, so the file is not complete; write it again with complianced capture")
	errLong    = errors.New("the line is longer than 1 MiB")
	errVersion = fmt.Errorf(`this is no file of complianced capture: its first line must be {"complianceReports":%d}`, fileVersion)
)

// Next has the contract of [Source]. The error is a [*LineError] where a line is not
// as it must be.
func (f *File) Next(ctx context.Context) (Report, error) {
	if err := ctx.Err(); err != nil {
		return Report{}, err
	}
	if f.n == 0 {
		if err := f.heading(); err != nil {
			return Report{}, err
		}
	}
	text, err := f.line()
	if err != nil {
		return Report{}, err
	}
	var l line
	if err := unmarshal(text, &l); err != nil {
		return Report{}, f.wrong(err)
	}
	r, err := l.report()
	if err != nil {
		return Report{}, f.wrong(err)
	}
	return r, nil
}

func (f *File) heading() error {
	text, err := f.line()
	if errors.Is(err, io.EOF) {
		f.n = 1
		return f.wrong(errVersion)
	}
	if err != nil {
		return err
	}
	var h heading
	if err := unmarshal(text, &h); err != nil || h.Version != fileVersion {
		return f.wrong(errVersion)
	}
	return nil
}

// line returns the next line without its end. It is valid until the next call.
func (f *File) line() ([]byte, error) {
	text, err := f.lines.ReadSlice('\n')
	if errors.Is(err, io.EOF) && len(text) == 0 {
		return nil, io.EOF
	}
	f.n++
	switch {
	case errors.Is(err, io.EOF):
		return nil, f.wrong(errTorn)
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, f.wrong(errLong)
	case err != nil:
		return nil, f.wrong(err)
	}
	return bytes.TrimSuffix(text, []byte("\n")), nil
}

func (f *File) wrong(err error) error { return &LineError{Line: f.n, Err: err} }

// unmarshal reads a line strictly. Its error says where in the line, and nothing of it.
func unmarshal(text []byte, v any) error {
	err := json.Unmarshal(text, v, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return fmt.Errorf("not one JSON object in valid UTF-8 (byte %d)", syntax.ByteOffset)
	}
	if semantic, ok := errors.AsType[*json.SemanticError](err); ok {
		return fmt.Errorf("not a report: an unknown member or a value of the wrong type (byte %d)", semantic.ByteOffset)
	}
	return errors.New("not a report")
}

// Writer writes the file that [File] reads.
type Writer struct {
	w   *bufio.Writer
	n   int
	buf []byte
}

// NewWriter returns a writer.
func NewWriter(w io.Writer) *Writer { return &Writer{w: bufio.NewWriterSize(w, 1<<16)} }

// Write writes a report; the first one writes the version before it.
func (w *Writer) Write(r *Report) error {
	if err := w.begin(); err != nil {
		return err
	}
	return w.write(lineOf(r))
}

// Flush writes what is not written yet. A file without reports has the version alone.
func (w *Writer) Flush() error {
	if err := w.begin(); err != nil {
		return err
	}
	return w.w.Flush()
}

func (w *Writer) begin() error {
	if w.n > 0 {
		return nil
	}
	w.n++
	return w.write(heading{Version: fileVersion})
}

func (w *Writer) write(v any) (err error) {
	if w.buf, err = appendLine(w.buf[:0], v); err != nil {
		return err
	}
	_, err = w.w.Write(w.buf)
	return err
}
