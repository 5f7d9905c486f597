package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	envPrefix     = "COMPLIANCED_"
	envRedisWord  = envPrefix + "REDIS_PASSWORD"
	redisURLFlag  = "redis-url"
	natsURLFlag   = "nats-url"
	configSetting = "config"
)

// load gives every flag that was not set the value of the environment, else that
// of the configuration file.
func (c *common) load(cmd *cobra.Command) error {
	if err := c.checkPasswords(cmd); err != nil {
		return err
	}
	if f := cmd.Flags().Lookup(configSetting); !f.Changed {
		c.config = os.Getenv(envName(configSetting))
	}
	settings := koanf.New("\x00")
	if c.config != "" {
		if err := settings.Load(file.Provider(c.config), yaml.Parser()); err != nil {
			return usagef("--config %s: %s", c.config, strings.ReplaceAll(err.Error(), "\n", ""))
		}
		if err := known(cmd.Root(), settings.Keys()); err != nil {
			return usagef("--config %s: %w", c.config, err)
		}
	}
	environment := env.Provider("\x00", env.Opt{Prefix: envPrefix, TransformFunc: func(name, value string) (string, any) {
		return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, envPrefix)), "_", "-"), value
	}})
	if err := settings.Load(environment, nil); err != nil {
		return usagef("environment: %w", err)
	}
	c.settings = map[string]bool{}
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || failed != nil || !settings.Exists(f.Name) {
			return
		}
		setting := settings.Get(f.Name)
		if err := set(f, setting); err != nil {
			failed = usagef("setting %s: %w", f.Name, err)
		}
		if setting != nil {
			c.settings[f.Name] = true
		}
	})
	if failed != nil {
		return failed
	}
	return c.checkServers()
}

// checkPasswords refuses a password on the command line.
func (c *common) checkPasswords(cmd *cobra.Command) error {
	for name, addresses := range map[string][]string{redisURLFlag: c.redisURL, natsURLFlag: addressesIn(c.natsURL)} {
		name = c.prefix + name
		if cmd.Flags().Changed(name) && holdsPassword(addresses) {
			return usagef("--%s holds a password, which others can see in the process list; "+
				"give it by a file or the environment (%s)", name, envName(name))
		}
	}
	return nil
}

// given says whether a flag has a value of the user's, from wherever.
func (c *common) given(cmd *cobra.Command, name string) bool {
	return cmd.Flags().Changed(name) || c.settings[name]
}

// set gives a flag a setting: one value, or a list or a map of YAML for a flag that
// has several. A setting without a value is as one that is not there.
func set(f *pflag.Flag, setting any) error {
	switch of := setting.(type) {
	case nil:
		return nil
	case []any:
		list := make([]string, len(of))
		for i, value := range of {
			list[i] = text(value)
		}
		if several, ok := f.Value.(pflag.SliceValue); ok {
			return several.Replace(list)
		}
		if strings.HasSuffix(f.Name, natsURLFlag) {
			return f.Value.Set(strings.Join(list, ","))
		}
		return errors.New("it has one value, not a list")
	case map[string]any:
		if f.Value.Type() != "stringToString" {
			return errors.New("it does not consist of names and values")
		}
		return setMap(f.Value, of)
	default:
		return f.Value.Set(text(of))
	}
}

// text is a value of YAML as on a command line. YAML takes a date without quotes for
// a time.
func text(value any) string {
	if at, ok := value.(time.Time); ok {
		return at.Format(time.RFC3339Nano)
	}
	return fmt.Sprint(value)
}

// setMap writes the map as on a command line. A pair alone is not read as CSV there,
// which any text survives, several pairs are; so the first is given twice.
func setMap(to pflag.Value, from map[string]any) error {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(from)) {
		pairs = append(pairs, name+"="+text(from[name]))
	}
	if len(pairs) == 0 {
		return nil
	}
	var line strings.Builder
	w := csv.NewWriter(&line)
	if err := w.Write(append(pairs, pairs[0])); err != nil {
		return err
	}
	w.Flush()
	return to.Set(line.String())
}

func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// known refuses a key that is no flag of any command.
func known(root *cobra.Command, keys []string) error {
	for _, key := range keys {
		name, _, _ := strings.Cut(key, "\x00")
		found := root.PersistentFlags().Lookup(name) != nil
		for _, cmd := range root.Commands() {
			found = found || cmd.Flags().Lookup(name) != nil
		}
		if !found {
			return usagef("%q is no setting; settings have the names of flags", name)
		}
	}
	return nil
}
