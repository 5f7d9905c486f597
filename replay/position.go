package replay

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// positionVersion is the version of the form of a position.
const positionVersion = 1

// Position says how far a replay is. Every report before it is passed.
type Position struct {
	Version int `json:"complianceReplay"`
	// Of says which replay it is of, in words of the caller's.
	Of string `json:"of"`
	// Passed is how many reports of the replay are passed, in its order, and Digest a hash of
	// them in that order.
	Passed uint64 `json:"passed"`
	Digest string `json:"digest,omitempty"`
	// Reached is of each stream the last sequence that is passed, where reports are
	// replayed in sequence. Bounds are those of the whole replay.
	Reached map[string]uint64 `json:"reached,omitempty"`
	Bounds  map[string]Bounds `json:"bounds,omitempty"`
	// Table counts what became of those that are passed.
	Table Table `json:"table"`
}

// ByNumber reports whether the reports that are passed have to be read again and left
// out, because no place in a stream says where the replay is.
func (p *Position) ByNumber() bool { return p.Passed > 0 && len(p.Reached) == 0 }

// ErrPosition says that a file holds no position.
var ErrPosition = errors.New("this is no resume file of complianced replay")

// ReadPosition reads a position. The error is fs.ErrNotExist where there is no file,
// and [ErrPosition] where it holds something else.
func ReadPosition(path string) (Position, error) {
	var p Position
	text, err := os.ReadFile(path)
	if err != nil {
		return p, fmt.Errorf("read position: %w", err)
	}
	if json.Unmarshal(text, &p) != nil || p.Version != positionVersion {
		return Position{}, ErrPosition
	}
	return p, nil
}

// Write writes the position so that the file holds this one or the one before, whatever
// becomes of the process. After a power cut it may hold none: it is not synced, because
// the append-only file of a Redis on the same disk would have to wait for that, and live
// reports with it.
func (p *Position) Write(path string) error {
	own := *p
	own.Version = positionVersion
	text, err := json.Marshal(own)
	if err != nil {
		return fmt.Errorf("write position: %w", err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write position: %w", err)
	}
	_, err = temporary.Write(append(text, '\n'))
	err = errors.Join(err, temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write position: %w", err), os.Remove(temporary.Name()))
	}
	return nil
}
