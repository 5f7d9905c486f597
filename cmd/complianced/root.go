package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/complianced/complianced/store"
)

// common are the settings of every command.
type common struct {
	config    string
	dataDir   string
	logFormat string
	logLevel  string

	natsURL   string
	natsCreds string
	natsTLS   tlsFiles

	redisURL      []string
	redisMaster   string
	redisPassword string
	redisTLS      tlsFiles

	// prefix is what the names of the flags of the servers begin with.
	prefix string
	// settings are the flags that the environment or the file gave a value.
	settings map[string]bool
}

// tlsFiles are the files of one TLS connection.
type tlsFiles struct{ ca, cert, key string }

func newRoot() *cobra.Command {
	c := &common{}
	root := &cobra.Command{
		Use:   "complianced",
		Short: "Turns a stream of device compliance reports into current state and counts",
		Long: `complianced ingests device compliance reports from NATS into Redis and counts them.

Try it: complianced demo

Settings come from flags, then from the environment (--nats-url is COMPLIANCED_NATS_URL),
then from a YAML file (--config) with the flags' names as keys.`,
		Args:          args(noArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			store.LogDriver(slog.New(slog.DiscardHandler)) // A command's own errors say it all.
			return c.load(cmd)
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, cmd.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.StringVar(&c.config, "config", "", "YAML `file` with settings")
	flags.StringVar(&c.logFormat, "log-format", "text", "text or json")
	flags.StringVar(&c.logLevel, "log-level", "info", "debug, info, warn or error")
	c.addServers(flags, "")
	root.AddCommand(
		newServe(c), newDemo(c), newPublish(c), newSimulate(c), newGet(c), newList(c), newExport(c), newSummary(c),
		newProvision(c), newRemove(c), newVerify(c), newCheck(), newDead(c), newReplay(c), newCapture(c), newTokenCommand(c), newVersion(),
	)
	return root
}

// addServers adds the flags that say where the servers are; their names begin with a prefix.
func (c *common) addServers(flags *pflag.FlagSet, prefix string) {
	c.prefix = prefix
	flags.StringVar(&c.dataDir, prefix+"data-dir", "", "`folder` of the embedded servers and of serve.json (default \"$XDG_STATE_HOME/complianced\")")
	flags.StringVar(&c.natsURL, prefix+natsURLFlag, "", "NATS `servers`, separated by commas (default: those of the serve in --data-dir; for serve: an embedded one)")
	flags.StringVar(&c.natsCreds, prefix+"nats-creds", "", "`file` with NATS credentials")
	flags.StringVar(&c.natsTLS.ca, prefix+"nats-tls-ca", "", "`file` with the CA certificates of NATS")
	flags.StringVar(&c.natsTLS.cert, prefix+"nats-tls-cert", "", "`file` with the client certificate for NATS")
	flags.StringVar(&c.natsTLS.key, prefix+"nats-tls-key", "", "`file` with the client key for NATS")
	flags.StringSliceVar(&c.redisURL, prefix+redisURLFlag, nil, "redis://, rediss:// or unix:// `URL`; several for a cluster (default as --nats-url)")
	flags.StringVar(&c.redisMaster, prefix+"redis-sentinel-master", "", "`name` of the master: the Redis URLs are those of its Sentinels")
	flags.StringVar(&c.redisPassword, prefix+"redis-password-file", "", "`file` with the Redis password (or set COMPLIANCED_REDIS_PASSWORD)")
	flags.StringVar(&c.redisTLS.ca, prefix+"redis-tls-ca", "", "`file` with the CA certificates of Redis")
	flags.StringVar(&c.redisTLS.cert, prefix+"redis-tls-cert", "", "`file` with the client certificate for Redis")
	flags.StringVar(&c.redisTLS.key, prefix+"redis-tls-key", "", "`file` with the client key for Redis")
}

// noArgs refuses arguments. [cobra.NoArgs] calls them unknown commands.
func noArgs(cmd *cobra.Command, given []string) error {
	if len(given) > 0 && cmd.HasParent() {
		return fmt.Errorf("%s takes no arguments", cmd.CommandPath())
	}
	return cobra.NoArgs(cmd, given)
}

// args makes a wrong number of arguments a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usagef("%w; see %s --help", err, cmd.CommandPath())
		}
		return nil
	}
}

// dir returns the data folder.
func (c *common) dir() (string, error) {
	if c.dataDir != "" {
		return filepath.Abs(c.dataDir)
	}
	state := os.Getenv("XDG_STATE_HOME")
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", usagef("no home folder is known: set --data-dir")
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "complianced"), nil
}

// logger returns the log, as --log-format and --log-level want it.
func (c *common) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.logLevel)); err != nil {
		return nil, usagef("--log-level %q is not debug, info, warn or error", c.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch c.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, usagef("--log-format %q is not text or json", c.logFormat)
}

// clientTimeout bounds what a client command waits for a server.
const clientTimeout = 10 * time.Second

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "complianced", version)
			return err
		},
	}
}
