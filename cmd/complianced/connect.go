package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

// checkServers finds what is wrong with the addresses and files of the servers
// before anything is started.
func (c *common) checkServers() error {
	if c.natsURL != "" {
		if err := checkAddresses(c.natsURL); err != nil {
			return usagef("--%s%s: %w", c.prefix, natsURLFlag, err)
		}
	}
	if c.natsCreds != "" {
		if err := checkCredentials(nats.UserCredentials(c.natsCreds)); err != nil {
			return usagef("--%snats-creds: %w", c.prefix, err)
		}
	}
	if _, err := c.natsTLS.config("--" + c.prefix + "nats-tls"); err != nil {
		return err
	}
	options, err := c.redisOptions(addresses{Redis: c.redisURL, RedisMaster: c.redisMaster})
	if err != nil || len(c.redisURL) == 0 {
		return err
	}
	unused, err := store.New(compliance.Layout{Partitions: 1, Buckets: 1}, options)
	if err != nil {
		return usagef("--%s%s: %w (special characters of a password are percent-encoded; commas part several URLs)", c.prefix, redisURLFlag, err)
	}
	return unused.Close()
}

// checkCredentials reads the file as the client does at each connect, where an
// error would be one to wait for.
func checkCredentials(credentials nats.Option) error {
	var client nats.Options
	if err := credentials(&client); err != nil {
		return err
	}
	if _, err := client.UserJWT(); err != nil {
		return err
	}
	_, err := client.SignatureCB([]byte("nonce"))
	return err
}

// redisOptions returns how to reach a Redis. What the settings say of a password
// and of TLS is about a Redis of the user's own: the embedded one gets none of it.
func (c *common) redisOptions(found addresses) (store.Options, error) {
	options := store.Options{URLs: found.Redis}
	if found.RedisEmbedded {
		return options, nil
	}
	options.SentinelMaster, options.Password = found.RedisMaster, os.Getenv(envRedisWord)
	if c.redisPassword != "" {
		text, err := os.ReadFile(c.redisPassword)
		if err != nil {
			return options, usagef("--%sredis-password-file: %w", c.prefix, err)
		}
		options.Password = strings.TrimRight(string(text), "\r\n")
	}
	config, err := c.redisTLS.config("--" + c.prefix + "redis-tls")
	if config != nil && slices.ContainsFunc(found.Redis, plainText) {
		return options, usagef("--%[1]sredis-tls-ca, --%[1]sredis-tls-cert and --%[1]sredis-tls-key go with rediss:// URLs: redis:// and unix:// mean no TLS", c.prefix)
	}
	options.TLS = config
	return options, err
}

func plainText(redisURL string) bool {
	return !strings.HasPrefix(strings.ToLower(strings.TrimSpace(redisURL)), "rediss://")
}

// config reads the files; the names of their flags begin as given.
func (f tlsFiles) config(flags string) (*tls.Config, error) {
	if f == (tlsFiles{}) {
		return nil, nil //nolint:nilnil // No files, no configuration: the system's roots.
	}
	if (f.cert == "") != (f.key == "") {
		return nil, usagef("%[1]s-cert and %[1]s-key go together", flags)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, usagef("%s-ca: %w", flags, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usagef("%s-ca: %s holds no certificate", flags, f.ca)
		}
	}
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, usagef("%[1]s-cert, %[1]s-key: %[2]w", flags, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// need says which servers a command talks to.
type need struct{ nats, redis bool }

// find returns the servers that a client command talks to: those of the settings,
// or, where these name none, those of the serve in the data folder. The two are
// never mixed: they may have nothing to do with each other.
func (c *common) find(needs need) (addresses, error) {
	named := addresses{NATS: c.natsURL, Redis: c.redisURL, RedisMaster: c.redisMaster}
	switch {
	case named.NATS == "" && len(named.Redis) == 0:
		return c.findServe(needs)
	case needs.nats && named.NATS == "":
		return named, usagef("which NATS belongs to the Redis of --%[1]s%[2]s? set --%[1]s%[3]s", c.prefix, redisURLFlag, natsURLFlag)
	case needs.redis && len(named.Redis) == 0:
		return named, usagef("which Redis belongs to the NATS of --%[1]s%[2]s? set --%[1]s%[3]s", c.prefix, natsURLFlag, redisURLFlag)
	}
	return named, nil
}

func (c *common) findServe(needs need) (addresses, error) {
	dir, err := c.dir()
	if err != nil {
		return addresses{}, err
	}
	told, err := readAddresses(dir)
	switch {
	case err != nil:
		return told, err
	case needs.nats && told.NATS == "", needs.redis && len(told.Redis) == 0:
		return told, fmt.Errorf("%s in %s does not name the servers: set --%s and --%s", addressesFile, dir, natsURLFlag, redisURLFlag)
	}
	told.RedisMaster = cmp.Or(c.redisMaster, told.RedisMaster)
	return told, nil
}

// clientNATS connects a client command to NATS.
func (c *common) clientNATS(name string) (*nats.Conn, error) {
	found, err := c.find(need{nats: true})
	if err != nil {
		return nil, err
	}
	return c.connectNATS(found.NATS, "complianced "+name)
}

// patientNATS connects a client command that waits for a NATS that is away.
func (c *common) patientNATS(name string, log *slog.Logger) (*nats.Conn, error) {
	found, err := c.find(need{nats: true})
	if err != nil {
		return nil, err
	}
	return c.waitForNATS(found.NATS, "complianced "+name, connection{log: log})
}

// clientStore opens the state for a client command.
func (c *common) clientStore(ctx context.Context) (*store.Redis, error) {
	found, err := c.find(need{redis: true})
	if err != nil {
		return nil, err
	}
	options, err := c.redisOptions(found)
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, options)
}
