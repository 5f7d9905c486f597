package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/internal/embedded"
	"github.com/complianced/complianced/metrics"
	"github.com/complianced/complianced/store"
)

// The roles of a serve.
const (
	roleIngest = "ingest"
	roleState  = "state"
	roleAPI    = "api"
)

var allRoles = []string{roleIngest, roleState, roleAPI}

// tombstonesBeyond is how much longer than the stream keeps reports a tombstone
// is kept by default.
const tombstonesBeyond = 7 * 24 * time.Hour

// connectTimeout is how long the first answer of NATS may take: so often a serve that
// waits says why.
const connectTimeout = 5 * time.Second

// server is one serve: its settings, then what it started.
type server struct {
	common        *common
	roles         []string
	metricsListen string
	natsListen    string
	allow         []string
	tombstones    time.Duration
	validity      validity
	maxPolicies   int
	policyNames   map[string]string
	api           api

	log      *slog.Logger
	registry *prometheus.Registry
	pipeline *metrics.Pipeline
	health   *health
	servers  string // The NATS addresses.
	nats     *nats.Conn
	js       jetstream.JetStream
	store    *store.Redis
	layout   compliance.Layout
	token    string   // That of the API, where the settings name none.
	closers  []func() // Called in reverse when nothing of this serve runs any more.
}

func newServe(c *common) *cobra.Command {
	s := &server{common: c}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Merge reports, and serve the metrics and the HTTP API",
		Long: `Merges the reports of the streams into Redis, serves the counts to Prometheus, and the records
by the HTTP API of Microsoft Graph.

Without --nats-url it runs a NATS server itself, without --redis-url a valkey-server or
redis-server from PATH, both with their data in --data-dir. Servers that are named are waited
for, and never provisioned: run complianced provision once.

The HTTP API takes the tokens of --api-tokens and of --oidc-issuer. Where neither is set, serve
makes one token, which is good until it ends: complianced token prints it.`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := c.logger(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			dir, err := c.dir()
			if err != nil {
				return err
			}
			return s.run(cmd.Context(), log, dir, false, func(ctx context.Context, found addresses) error {
				log.InfoContext(ctx, "serving", slog.String("metrics", "http://"+found.Metrics+"/metrics"),
					slog.String("nats", withoutPassword(found.NATS)), slog.String("api", found.HTTP))
				if s.token != "" {
					fmt.Fprintf(cmd.OutOrStdout(), "try the HTTP API:\n\n%s\n", curl(dir, found))
				}
				return nil
			})
		},
	}
	s.add(cmd)
	return cmd
}

func (s *server) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&s.roles, "roles", allRoles, "what to run: ingest merges reports, state serves the counts, api the HTTP API")
	flags.StringVar(&s.metricsListen, "metrics-listen", "127.0.0.1:8081", "`address` of /metrics, /livez and /readyz; without a host, as :8081, on every interface")
	flags.StringVar(&s.natsListen, "nats-listen", "127.0.0.1:4222", "`address` of the embedded NATS; without a host, as :4222, on every interface")
	flags.StringSliceVar(&s.allow, "allow-policies", nil, "`patterns` of the policies to take, as policy-* (default all); removals are taken of every policy")
	flags.DurationVar(&s.tombstones, "tombstones", 0, "how long what is left of a removed record is kept; 0 is the streams' age limit plus 7 days")
	s.validity.add(cmd)
	flags.IntVar(&s.maxPolicies, "max-policies", 2000, "how many policies are labels of metrics; the rest is summed")
	flags.StringToStringVar(&s.policyNames, "policy-names", nil, "`id=name` of policies, for compliance_policy_info")
	s.api.add(flags)
}

func (s *server) validate() error {
	for _, role := range s.roles {
		if !slices.Contains(allRoles, role) {
			return usagef("--roles: %q is not one of %s", role, strings.Join(allRoles, ", "))
		}
	}
	if len(s.roles) == 0 {
		return usagef("--roles is empty")
	}
	if err := compliance.Patterns(s.allow).Validate(); err != nil {
		return usagef("--allow-policies: %w", err)
	}
	if s.tombstones < 0 || s.maxPolicies < 1 {
		return usagef("--tombstones is at least 0, --max-policies at least 1")
	}
	if err := s.validity.validate(); err != nil {
		return err
	}
	for flag, listen := range map[string]string{"metrics-listen": s.metricsListen, "nats-listen": s.natsListen} {
		if _, _, err := splitListen(listen); err != nil {
			return usagef("--%s %q is not an address to listen on, as 127.0.0.1:8081 or :8081: %w", flag, listen, err)
		}
	}
	return nil
}

// is reports whether a role is one of this serve.
func (s *server) is(role string) bool { return slices.Contains(s.roles, role) }

// splitListen returns the host, which is 0.0.0.0 where it is left out, and the port.
func splitListen(listen string) (string, int, error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	return cmp.Or(host, "0.0.0.0"), int(port), err
}

// run serves until the context ends. Serving is called, in a goroutine of its
// own, once reports are merged; its error ends the serve.
func (s *server) run(ctx context.Context, log *slog.Logger, path string, fresh bool,
	serving func(context.Context, addresses) error,
) (err error) {
	if err := s.validate(); err != nil {
		return err
	}
	if s.is(roleAPI) {
		if err := s.api.prepare(log); err != nil {
			return err
		}
	}
	s.log = log
	store.LogDriver(log)
	if os.Getenv("GOGC") == "" {
		// Almost nothing that a report allocates outlives its batch. Fewer collections
		// save processor time, for some 20 MB.
		debug.SetGCPercent(150)
	}
	dir, err := lockDir(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.close()) }()
	if fresh {
		if err := embedded.AwaitRedis(ctx, path); err != nil {
			return quiet(ctx, err)
		}
		if err := dir.empty(); err != nil {
			return err
		}
	}
	s.registry = prometheus.NewRegistry()
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.pipeline = metrics.NewPipeline(s.registry, version)
	s.health = &health{}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return quiet(ctx, s.begin(ctx, group, dir, serving)) })
	err = group.Wait()
	if s.store != nil {
		err = errors.Join(err, s.store.Close())
	}
	for _, closer := range slices.Backward(s.closers) {
		closer()
	}
	return err
}

// begin starts everything, in the group. What it started ends with the context.
func (s *server) begin(ctx context.Context, group *errgroup.Group, dir *dataDir, serving func(context.Context, addresses) error) error {
	address, err := s.listen(ctx, group)
	if err != nil {
		return err
	}
	var apiAddress string
	if s.is(roleAPI) {
		if apiAddress, err = s.listenAPI(ctx, group); err != nil {
			return err
		}
	}
	found, err := s.startServers(ctx, group, dir.path)
	if err != nil {
		return err
	}
	found.Metrics, found.HTTP, found.Token = address, apiAddress, s.token
	if err := dir.tell(found); err != nil {
		return err
	}
	options, err := s.common.redisOptions(found)
	if err != nil {
		return err
	}
	if err := s.prepare(ctx, options); err != nil {
		return err
	}
	return s.start(ctx, group, found, options, serving)
}

// quiet drops the errors of a context that ended: that is how a serve is stopped.
func quiet(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}

// start begins to merge and to serve.
func (s *server) start(ctx context.Context, group *errgroup.Group, found addresses, options store.Options, serving func(context.Context, addresses) error) error {
	state := &stateReader{js: s.js, store: s.store, layout: s.layout, validity: s.validity.days}
	if s.is(roleState) {
		read := (&watchedRead{read: state.read, log: s.log, address: s.store.Address(), pipeline: s.pipeline, stopped: ctx.Done()}).call
		err := s.registry.Register(metrics.NewState(read, metrics.StateOptions{
			MaxPolicies: s.maxPolicies, PolicyNames: s.policyNames,
		}))
		if err != nil {
			return err
		}
	}
	if s.is(roleIngest) {
		for partition := range s.layout.Partitions {
			loop, err := ingest.NewLoop(
				ingest.NewJetStream(s.js, ingest.StreamName(s.layout, partition)),
				watched{s.store, s.pipeline}, ingest.NewPublisher(s.js),
				ingest.Options{Layout: s.layout, Partition: partition, Allow: s.allow, Logger: s.log, Observer: s.pipeline})
			if err != nil {
				return err
			}
			group.Go(func() error { return loop.Run(ctx) })
		}
	}
	if s.is(roleAPI) {
		if err := s.startAPI(ctx, group, options); err != nil {
			return err
		}
	}
	s.health.set(func(ctx context.Context) error { return errors.Join(s.checkNATS(ctx), s.store.Ping(ctx)) }, state.gaps)
	return serving(ctx, found)
}

func (s *server) checkNATS(ctx context.Context) error {
	if !s.nats.IsConnected() {
		return fmt.Errorf("nats at %s: %w", withoutPassword(s.servers), s.notConnected())
	}
	if _, err := s.js.Stream(ctx, ingest.StreamName(s.layout, 0)); err != nil {
		return fmt.Errorf("nats at %s: %w", withoutPassword(s.servers), err)
	}
	return nil
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
