package embedded

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// childLog is the file that takes the child's output. Earlier runs stay in it.
type childLog struct {
	path  string
	file  *os.File
	start int64 // Where this run begins.
}

// maxLogBytes is the size from which on a start begins a new file and keeps the full one as redis.log.old.
const maxLogBytes = 4 << 20

func openLog(path string) (*childLog, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxLogBytes {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, fmt.Errorf("put the full log aside: %w", err)
		}
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	start, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return &childLog{path: path, file: file, start: start}, nil
}

// tail is the end of what this run wrote, on one line, for an error message.
func (l *childLog) tail() string {
	text, err := os.ReadFile(l.path)
	if err != nil {
		return err.Error()
	}
	text = text[min(l.start, int64(len(text))):]
	lines := strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' || r == '\r' })
	lines = lines[max(0, len(lines)-4):]
	if len(lines) == 0 {
		return "nothing"
	}
	return strings.Join(lines, " | ")
}
