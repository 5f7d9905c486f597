package token

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"regexp"

	"go.yaml.in/yaml/v3"
)

// list has the entries of a file by the hashes of their tokens. That looking one up takes
// a time that depends on the hash tells nothing of use: who does not know a token cannot
// choose what it is hashed to.
type list map[[sha256.Size]byte]held

// parse reads the YAML of a file. An error names an entry by its position and name.
func parse(text []byte) (list, error) {
	entries, err := decode(text)
	if err != nil {
		return nil, err
	}
	read := make(list, len(entries))
	names := make(map[string]int, len(entries))
	hashes := make(map[[sha256.Size]byte]int, len(entries))
	for i, entry := range entries {
		position := i + 1
		where := fmt.Sprintf("entry %d", position)
		if validName(entry.Name) {
			where += " (" + entry.Name + ")"
		}
		h, err := entry.read()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		if other := names[entry.Name]; other > 0 {
			return nil, fmt.Errorf("%s: entry %d has this name too; give each its own", where, other)
		}
		if other := hashes[h.hash]; other > 0 {
			return nil, fmt.Errorf("%s: entry %d has this sha256 too; leave one of them out", where, other)
		}
		names[entry.Name], hashes[h.hash], read[h.hash] = position, position, h
	}
	return read, nil
}

// decode reads the YAML of a file. The texts of the YAML package are not passed on, as
// they have parts of values.
func decode(text []byte) ([]Entry, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	err := decoder.Decode(&document)
	switch {
	case errors.Is(err, io.EOF):
		return nil, errors.New("there is no list; one without a token is []")
	case err != nil:
		return nil, fmt.Errorf("%sthis is not YAML", line(err))
	case !errors.Is(decoder.Decode(new(yaml.Node)), io.EOF):
		return nil, errors.New("there is something after the list; the file is one list")
	}
	if n := unset(&document); n > 0 {
		return nil, fmt.Errorf("line %d: there is no value; give one or leave the member out", n)
	}
	decoder = yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	var entries []Entry
	if err := decoder.Decode(&entries); err != nil {
		return nil, fmt.Errorf("%sthe file is a list of entries, each with name, sha256, scopes (a list) and, if wanted, device and expires, and with nothing else", line(err))
	}
	return entries, nil
}

// unset returns the line of a value that is null or empty; 0 where there is none. A
// device that is left open must not become a token for all devices.
func unset(node *yaml.Node) int {
	if node.Kind == yaml.ScalarNode && (node.Value == "" || node.ShortTag() == "!!null") {
		return node.Line
	}
	for _, child := range node.Content {
		if n := unset(child); n > 0 {
			return n
		}
	}
	return 0
}

var lineOf = regexp.MustCompile(`line \d+: `)

// line returns the part of a text of the YAML package that says where.
func line(err error) string {
	return lineOf.FindString(err.Error())
}
