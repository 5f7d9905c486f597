package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/complianced/complianced/graph"
	"github.com/complianced/complianced/graph/token"
)

// tokening are the flags of token.
type tokening struct {
	fresh   bool
	entry   token.Entry
	expires time.Duration
}

func newTokenCommand(c *common) *cobra.Command {
	var t tokening
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Print the token of a serve's HTTP API, or make one",
		Long: `Prints the token that the serve in --data-dir made for its HTTP API, because its settings name
none.

With --new it makes a token: its entry for the file of serve --api-tokens, which holds nothing but
a hash, goes to standard output, and the token itself to standard error. It is not kept anywhere
else.`,
		Example: `  complianced token
  complianced token --new --name dashboard --scope ` + graph.ScopeRead + ` >> tokens.yaml`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if t.fresh {
				return t.make(cmd)
			}
			for _, flag := range []string{"name", "scope", "device", "expires"} {
				if cmd.Flags().Changed(flag) {
					return usagef("--%s goes with --new", flag)
				}
			}
			return c.printToken(cmd)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&t.fresh, "new", false, "make a token for serve --api-tokens")
	flags.StringVar(&t.entry.Name, "name", "", "the `name` of the entry")
	flags.StringSliceVar(&t.entry.Scopes, "scope", []string{graph.ScopeRead}, "what the token allows: "+graph.ScopeRead+" or "+graph.ScopeReadWrite)
	flags.StringVar(&t.entry.Device, "device", "", "the only `device` whose records it is for (default all)")
	flags.DurationVar(&t.expires, "expires", 0, "how long it is good (default for ever)")
	return cmd
}

func (t *tokening) make(cmd *cobra.Command) error {
	if t.expires < 0 {
		return usagef("--expires is at least 0")
	}
	if t.expires > 0 {
		t.entry.Expires = time.Now().Add(t.expires).UTC().Format(time.RFC3339)
	}
	text, entry, err := token.New(t.entry)
	if err != nil {
		return usagef("--new: %w", err)
	}
	list, err := yaml.Marshal([]token.Entry{entry})
	if err != nil {
		return fmt.Errorf("write the entry: %w", err)
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s", list); err != nil {
		return err // Without its entry the token is worth nothing.
	}
	_, err = fmt.Fprintln(cmd.ErrOrStderr(), text)
	return err
}

// printToken prints the token of a serve.
func (c *common) printToken(cmd *cobra.Command) error {
	dir, err := c.dir()
	if err != nil {
		return err
	}
	found, err := readAddresses(dir)
	switch {
	case err != nil:
		return err
	case found.HTTP == "":
		return errors.New("the serve has no HTTP API: its --roles leave api out")
	case found.Token == "":
		return errors.New("the serve made no token: its --api-tokens or --oidc-issuer say who may use the HTTP API")
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), found.Token)
	return err
}

// self returns how this program is called in a shell.
func self() string {
	if path, err := os.Executable(); err == nil && strings.ContainsRune(os.Args[0], filepath.Separator) {
		return quoted(path)
	}
	return filepath.Base(os.Args[0])
}
