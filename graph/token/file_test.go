package token_test

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/complianced/complianced/graph"
	"github.com/complianced/complianced/graph/token"
)

// issue returns a new token and its entry.
func issue(t *testing.T, entry token.Entry) (string, token.Entry) {
	t.Helper()
	if entry.Scopes == nil {
		entry.Scopes = []string{graph.ScopeReadWrite}
	}
	text, entry, err := token.New(entry)
	if err != nil {
		t.Fatal(err)
	}
	return text, entry
}

// write replaces a file by one with other entries.
func write(t *testing.T, path string, entries ...token.Entry) {
	t.Helper()
	text, err := yaml.Marshal(entries)
	if err != nil {
		t.Fatal(err)
	}
	writeText(t, path, string(text))
}

func writeText(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, path string, options token.FileOptions) *token.File {
	t.Helper()
	f, err := token.OpenFile(path, options)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAFileGrantsWhatItsEntriesSay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	reader, first := issue(t, token.Entry{Name: "reader", Scopes: []string{graph.ScopeRead}})
	writer, second := issue(t, token.Entry{Name: "writer"})
	bound, third := issue(t, token.Entry{Name: "bound", Device: "device-1"})
	write(t, path, first, second, third)
	f := open(t, path, token.FileOptions{})
	wantGrant(t, f, reader, reads)
	wantGrant(t, f, writer, writes)
	wantGrant(t, f, bound, graph.Grant{Read: true, Write: true, Device: "device-1"})
	for _, wrong := range []string{"", "x", first.SHA256, reader[:len(reader)-1], reader + "x"} {
		wantRefused(t, f, wrong)
	}
}

func TestATokenIsRefusedFromTheInstantAtWhichItExpires(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	clock := &clock{at: time.Date(2030, 1, 31, 11, 59, 59, 999, time.UTC)}
	text, entry := issue(t, token.Entry{Name: "brief", Expires: "2030-01-31T13:00:00+01:00"})
	write(t, path, entry)
	f := open(t, path, token.FileOptions{Now: clock.Now})
	wantGrant(t, f, text, writes)
	clock.Add(time.Second - 999)
	wantRefused(t, f, text)
	wantRefused(t, open(t, path, token.FileOptions{Now: clock.Now}), text)
}

func TestAChangedFileIsInForceWithinASecond(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	clock := newClock()
	var journal journal
	old, oldEntry := issue(t, token.Entry{Name: "name"})
	next, nextEntry := issue(t, token.Entry{Name: "name"})
	write(t, path, oldEntry)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, path, token.FileOptions{Now: clock.Now, Logger: journal.logger()})
	// It has the size and the time of the one before.
	write(t, path, nextEntry)
	if err := os.Chtimes(path, before.ModTime(), before.ModTime()); err != nil {
		t.Fatal(err)
	}
	clock.Add(time.Second - 1)
	wantGrant(t, f, old, writes)
	clock.Add(1)
	wantRefused(t, f, old)
	wantGrant(t, f, next, writes)
	if log := journal.String(); strings.Count(log, "token file has changed") != 1 || !strings.Contains(log, "tokens=1") {
		t.Errorf("the log is %q", log)
	}
	// The second counts from the last look.
	write(t, path, oldEntry)
	clock.Add(time.Second - 1)
	wantRefused(t, f, old)
	clock.Add(1)
	wantGrant(t, f, old, writes)
}

func TestAFileMayChangeUnderManyRequests(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	clock := newClock()
	text, entry := issue(t, token.Entry{Name: "stays"})
	_, other := issue(t, token.Entry{Name: "goes"})
	write(t, path, entry, other)
	f := open(t, path, token.FileOptions{Now: clock.Now})
	stop := make(chan struct{})
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if grant, err := f.Authorize(t.Context(), text); err != nil || grant != writes {
					t.Errorf("got %+v and %v", grant, err)
					return
				}
			}
		})
	}
	for n := range 50 {
		write(t, path, []token.Entry{other, entry}[n%2:]...)
		clock.Add(time.Second)
		wantGrant(t, f, text, writes)
	}
	close(stop)
	group.Wait()
}

func TestAFileThatBecameWrongChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	clock := newClock()
	var journal journal
	text, entry := issue(t, token.Entry{Name: "name"})
	expiring, second := issue(t, token.Entry{Name: "expiring", Expires: clock.Now().Add(time.Minute).Format(time.RFC3339)})
	write(t, path, entry, second)
	f := open(t, path, token.FileOptions{Now: clock.Now, Logger: journal.logger()})
	warnings := 0
	for _, change := range []func(){
		func() { writeText(t, path, "") },
		func() { write(t, path, entry, entry) },
		func() { writeText(t, path, text) },
		func() { os.Remove(path) },
		func() { os.Mkdir(path, 0o700) },
	} {
		change()
		warnings++
		for range 3 { // It stays as it is, and is looked at again.
			clock.Add(time.Second)
			wantGrant(t, f, text, writes)
			wantGrant(t, f, expiring, writes)
		}
		if got := journal.warnings(); got != warnings {
			t.Fatalf("%d warnings, want %d:\n%s", got, warnings, &journal)
		}
	}
	clock.Add(time.Minute)
	wantRefused(t, f, expiring)
	// What was there at first comes back.
	os.Remove(path)
	writeText(t, path, "[]")
	clock.Add(time.Second)
	wantRefused(t, f, text)
	write(t, path, entry)
	clock.Add(time.Second)
	wantGrant(t, f, text, writes)
	if log := journal.String(); strings.Contains(log, text) || strings.Contains(log, entry.SHA256) || journal.warnings() != warnings {
		t.Errorf("the log is %s", log)
	}
}

func TestAWrongFileIsRefusedWithAReason(t *testing.T) {
	secret, entry := issue(t, token.Entry{Name: "first"})
	good := "{name: first, sha256: " + entry.SHA256 + ", scopes: [" + graph.ScopeRead + "]}"
	hash := strings.Repeat("5", 64) // Digits only are a text too.
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "[]"},
		{"a comment only", "# nothing\n", "[]"},
		{"null", "~", "line 1"},
		{"no list", "name: first\n", "line 1"},
		{"only the token", secret, "line 1"},
		{"only the token in a list", "- " + secret, "line 1"},
		{"no YAML", "- {name: first\n- " + secret + ": [\n", "YAML"},
		{"two documents", "[]\n---\n[]\n", "after the list"},
		{"an unknown member", "- " + good + "\n- {name: second, " + secret + ": x}", "line 2"},
		{"a member twice", "- {name: first, name: " + secret + "}", "line 1"},
		{"an unknown anchor", "- *" + secret, "YAML"},
		{"a name that is none", "- " + good + "\n- {name: 'a b', sha256: " + hash + ", scopes: [" + graph.ScopeRead + "]}", "entry 2: name"},
		{"the token as the name", "- {name: " + secret + ", sha256: " + hash + ", scopes: [" + graph.ScopeRead + "]}", "entry 1: name"},
		{"no name", "- {sha256: " + hash + ", scopes: [" + graph.ScopeRead + "]}", "entry 1: name"},
		{"the token as the hash", "- {name: first, sha256: " + secret + ", scopes: [" + graph.ScopeRead + "]}", "entry 1 (first): sha256"},
		{"a hash in upper case", "- {name: first, sha256: " + strings.ToUpper(strings.Replace(entry.SHA256, "0", "a", 1)) + ", scopes: [" + graph.ScopeRead + "]}", "entry 1 (first): sha256"},
		{"a short hash", "- {name: first, sha256: " + entry.SHA256[2:] + ", scopes: [" + graph.ScopeRead + "]}", "entry 1 (first): sha256"},
		{"no scopes", "- {name: first, sha256: " + hash + "}", graph.ScopeReadWrite},
		{"an empty list of scopes", "- {name: first, sha256: " + hash + ", scopes: []}", graph.ScopeRead},
		{"an unknown scope", "- {name: first, sha256: " + hash + ", scopes: [" + graph.ScopeRead + ", " + secret + "]}", graph.ScopeRead + " or " + graph.ScopeReadWrite},
		{"a scope that is no list", "- {name: first, sha256: " + hash + ", scopes: " + secret + "}", "line 1"},
		{"a device that is no id", "- {name: first, sha256: " + hash + ", scopes: [" + graph.ScopeRead + "], device: a.b}", "entry 1 (first): device"},
		{"a device that is left open", "- name: first\n  sha256: " + hash + "\n  device:\n  scopes: [" + graph.ScopeRead + "]", "line 3"},
		{"an empty device", "- name: first\n  sha256: " + hash + "\n  device: ''\n  scopes: [" + graph.ScopeRead + "]", "line 3"},
		{"an expiry that is left open", "- name: first\n  sha256: " + hash + "\n  scopes: [" + graph.ScopeRead + "]\n  expires: null", "line 4"},
		{"an expiry without an offset", "- {name: first, sha256: " + hash + ", scopes: [" + graph.ScopeRead + "], expires: 2030-01-31 12:00:00}", "entry 1 (first): expires"},
		{"a name twice", "- " + good + "\n- {name: first, sha256: " + hash + ", scopes: [" + graph.ScopeRead + "]}", "entry 2 (first): entry 1"},
		{"a hash twice", "- " + good + "\n- " + strings.Replace(good, "first", "second", 1), "entry 2 (second): entry 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "tokens.yaml")
			writeText(t, path, c.text)
			_, err := token.OpenFile(path, token.FileOptions{})
			if err == nil {
				t.Fatal("it was opened")
			}
			reason := strings.TrimPrefix(err.Error(), "token file "+path+": ")
			if !strings.Contains(reason, c.want) {
				t.Errorf("the error is %q, want %q in it", reason, c.want)
			}
			for _, value := range []string{secret[:7], secret[len(secret)-7:], entry.SHA256[:7], hash[:7]} {
				if strings.Contains(reason, value) {
					t.Errorf("the error has a part of a token or hash: %s", reason)
				}
			}
		})
	}
	if _, err := token.OpenFile(filepath.Join(t.TempDir(), "none"), token.FileOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the error of a file that is not there is %v", err)
	}
}

func TestAFileMayHaveAHashOfDigits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	writeText(t, path, "- {name: digits, sha256: "+strings.Repeat("5", 64)+", scopes: ["+graph.ScopeRead+"], expires: 2030-01-31T12:00:00Z}")
	wantRefused(t, open(t, path, token.FileOptions{}), "text")
}

func TestANewTokenIsRandomAndHasItsHashInTheEntry(t *testing.T) {
	first, entry := issue(t, token.Entry{Name: "name"})
	second, _ := issue(t, token.Entry{Name: "name"})
	if first == second || !strings.HasPrefix(first, "cpl_") || len(first) != len("cpl_")+43 {
		t.Errorf("tokens %q and %q", first, second)
	}
	if hash, err := hex.DecodeString(entry.SHA256); err != nil || len(hash) != 32 {
		t.Errorf("the hash is %q", entry.SHA256)
	}
	for _, wrong := range []token.Entry{
		{Scopes: []string{graph.ScopeRead}},
		{Name: "name"},
		{Name: "name", Scopes: []string{"all"}},
		{Name: "name", Scopes: []string{graph.ScopeRead}, Device: "a/b"},
		{Name: "name", Scopes: []string{graph.ScopeRead}, Expires: "tomorrow"},
	} {
		if text, made, err := token.New(wrong); err == nil || text != "" || made.SHA256 != "" {
			t.Errorf("a token for %+v", wrong)
		}
	}
}
