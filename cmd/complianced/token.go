package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

func newToken() string { return "cpl_" + rand.Text() + rand.Text() }

func newTokenCommand(c *common) *cobra.Command {
	return &cobra.Command{
		Use:   "token",
		Short: "Print the token of the HTTP API of the serve in --data-dir",
		Args:  args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
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
				return errors.New("the serve made no token: its settings --api-tokens or --oidc-issuer say who may use the HTTP API")
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), found.Token)
			return err
		},
	}
}

// self returns how this program is called in a shell.
func self() string {
	if path, err := os.Executable(); err == nil && strings.ContainsRune(os.Args[0], filepath.Separator) {
		return quoted(path)
	}
	return filepath.Base(os.Args[0])
}
