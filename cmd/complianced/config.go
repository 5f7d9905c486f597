package main

import (
	"maps"
	"os"
	"slices"
	"strings"

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
	for name, addresses := range map[string][]string{redisURLFlag: c.redisURL, natsURLFlag: addressesIn(c.natsURL)} {
		if cmd.Flags().Changed(name) && holdsPassword(addresses) {
			return usagef("--%s holds a password, which others can see in the process list; "+
				"give it by a file or the environment (%s)", name, envName(name))
		}
	}
	if f := cmd.Flags().Lookup(configSetting); !f.Changed {
		c.config = os.Getenv(envName(configSetting))
	}
	settings := koanf.New("\x00")
	if c.config != "" {
		if err := settings.Load(file.Provider(c.config), yaml.Parser()); err != nil {
			return usagef("--config %s: %w", c.config, err)
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
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || failed != nil || !settings.Exists(f.Name) {
			return
		}
		if err := f.Value.Set(settingText(settings, f.Name)); err != nil {
			failed = usagef("setting %s: %w", f.Name, err)
		}
	})
	if failed != nil {
		return failed
	}
	return c.checkServers()
}

// settingText returns a setting as a flag has it: lists and maps as a=b,c=d.
func settingText(settings *koanf.Koanf, name string) string {
	if list := settings.Strings(name); len(list) > 0 {
		return strings.Join(list, ",")
	}
	if m := settings.StringMap(name); len(m) > 0 {
		var pairs []string
		for _, key := range slices.Sorted(maps.Keys(m)) {
			pairs = append(pairs, key+"="+m[key])
		}
		return strings.Join(pairs, ",")
	}
	return settings.String(name)
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
