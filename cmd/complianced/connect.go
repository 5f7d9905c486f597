package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/internal/mask"
	"github.com/complianced/complianced/store"
)

// connectNATS connects a client. With a logger it waits for a server that is
// down and logs when the connection comes and goes; without, it fails at once.
func (c *common) connectNATS(servers, name string, log *slog.Logger, changed func(connected bool)) (*nats.Conn, error) {
	options := []nats.Option{nats.Name(name), nats.Timeout(clientTimeout)}
	if c.natsCreds != "" {
		options = append(options, nats.UserCredentials(c.natsCreds))
	}
	if c.natsTLS.ca != "" {
		options = append(options, nats.RootCAs(c.natsTLS.ca))
	}
	if c.natsTLS.cert != "" {
		options = append(options, nats.ClientCert(c.natsTLS.cert, c.natsTLS.key))
	}
	if log != nil {
		address := withoutPassword(servers)
		options = append(options,
			nats.RetryOnFailedConnect(true),
			nats.MaxReconnects(-1),
			nats.ConnectHandler(func(*nats.Conn) { changed(true) }),
			nats.ReconnectHandler(func(*nats.Conn) {
				changed(true)
				log.Info("nats is connected again", slog.String("address", address))
			}),
			nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
				changed(false)
				if err == nil {
					return // Closed by this process.
				}
				log.Warn("nats is not connected; trying again", slog.String("address", address), natsSays(err))
			}),
			nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
				log.Warn("nats cannot be reached; trying again", slog.String("address", address), natsSays(err))
			}),
			nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
				log.Warn("nats reports an error", slog.String("address", address), natsSays(err))
			}),
		)
	}
	nc, err := nats.Connect(servers, options...)
	if err != nil {
		return nil, fmt.Errorf("nats at %s: %w", withoutPassword(servers), err)
	}
	changed(nc.IsConnected())
	return nc, nil
}

// natsSays is an error of the NATS client for the log.
func natsSays(err error) slog.Attr { return slog.String("error", mask.Subjects(err.Error())) }

// checkServers finds what is wrong with the addresses and files of the servers
// before anything is started.
func (c *common) checkServers() error {
	if c.natsURL != "" {
		if err := checkAddresses(c.natsURL); err != nil {
			return usagef("--%s: %w", natsURLFlag, err)
		}
	}
	if c.natsCreds != "" {
		if err := checkCredentials(nats.UserCredentials(c.natsCreds)); err != nil {
			return usagef("--nats-creds: %w", err)
		}
	}
	if _, err := c.natsTLS.config("--nats-tls"); err != nil {
		return err
	}
	options, err := c.redisOptions(c.redisURL)
	if err != nil || len(c.redisURL) == 0 {
		return err
	}
	unused, err := store.New(compliance.Layout{Partitions: 1, Buckets: 1}, options)
	if err != nil {
		return usagef("--%s: %w", redisURLFlag, err)
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

// redisOptions returns how to reach Redis.
func (c *common) redisOptions(urls []string) (store.Options, error) {
	options := store.Options{URLs: urls, SentinelMaster: c.redisMaster, Password: os.Getenv(envRedisWord)}
	if c.redisPassword != "" {
		text, err := os.ReadFile(c.redisPassword)
		if err != nil {
			return options, usagef("--redis-password-file: %w", err)
		}
		options.Password = strings.TrimRight(string(text), "\r\n")
	}
	config, err := c.redisTLS.config("--redis-tls")
	options.TLS = config
	return options, err
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

// find returns the servers that a client command talks to: those of the flags,
// else those of the serve in the data folder.
func (c *common) find() (addresses, []string, error) {
	found := addresses{NATS: c.natsURL}
	if c.natsURL != "" && len(c.redisURL) > 0 {
		return found, c.redisURL, nil
	}
	dir, err := c.dir()
	if err != nil {
		return found, nil, err
	}
	told, err := readAddresses(dir)
	if err != nil {
		if c.natsURL != "" || len(c.redisURL) > 0 {
			return found, c.redisURL, nil
		}
		return found, nil, err
	}
	if found.NATS == "" {
		found.NATS = told.NATS
	}
	if len(c.redisURL) > 0 {
		return found, c.redisURL, nil
	}
	return found, strings.Split(told.Redis, ","), nil
}

// clientNATS connects a client command to NATS.
func (c *common) clientNATS(name string) (*nats.Conn, error) {
	found, _, err := c.find()
	if err != nil {
		return nil, err
	}
	if found.NATS == "" {
		return nil, usagef("which NATS? set --nats-url")
	}
	return c.connectNATS(found.NATS, "complianced "+name, nil, func(bool) {})
}

// clientStore opens the state for a client command.
func (c *common) clientStore(ctx context.Context) (*store.Redis, error) {
	_, urls, err := c.find()
	if err != nil {
		return nil, err
	}
	if len(urls) == 0 {
		return nil, usagef("which Redis? set --redis-url")
	}
	options, err := c.redisOptions(urls)
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, options)
}
