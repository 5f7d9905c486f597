package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
)

// Limits and times of the streams.
const (
	maxReportBytes     = 64 << 10
	maxDeadLetterBytes = 256 << 10
	deadLetterAge      = 30 * 24 * time.Hour
	// duplicateWindow is the smallest that the server takes. Its de-duplication
	// spans all devices, so that one could suppress another's report; the merge
	// law makes it needless.
	duplicateWindow = 100 * time.Millisecond
)

// Names in the metadata of a stream, by which an empty sink can be told from a
// new one.
const (
	metaLayout     = "compliance-layout"
	metaPartitions = "compliance-partitions"
	metaBuckets    = "compliance-buckets"
)

// Provisioning says what streams there are to be.
type Provisioning struct {
	Layout compliance.Layout
	// MaxAge is how long the streams keep reports; 0 is for ever.
	MaxAge time.Duration
	// Replicas is the number of replicas of each stream. Defaults to 1.
	Replicas int
	// KeepMaxAge and KeepReplicas leave these limits of streams that are there as
	// they are. Default to false.
	KeepMaxAge, KeepReplicas bool
}

// ErrNotProvisioned says that the streams are not there.
var ErrNotProvisioned = errors.New("the streams are not there; run complianced provision")

// StreamName returns the name of a partition's stream.
func StreamName(layout compliance.Layout, partition int) string {
	if layout.Partitions == 1 {
		return "COMPLIANCE_STATUS"
	}
	return "COMPLIANCE_STATUS_" + strconv.Itoa(partition)
}

// Provision creates the streams that are missing. Those that are there get what
// the wire contract says and the limits that are asked for, and keep all else:
// limits of bytes or messages, placement, the age limit of dead letters. It refuses
// another layout than the one that is there.
func Provision(ctx context.Context, js jetstream.JetStream, p Provisioning) error {
	if err := p.Layout.Validate(); err != nil {
		return err
	}
	have, err := ProvisionedLayout(ctx, js)
	switch {
	case errors.Is(err, ErrNotProvisioned):
	case err != nil:
		return err
	case have != p.Layout:
		return fmt.Errorf("the streams have %d partitions and %d buckets, which cannot be changed to %d and %d: reports would change their place",
			have.Partitions, have.Buckets, p.Layout.Partitions, p.Layout.Buckets)
	}
	for partition := range p.Layout.Partitions {
		if err := p.ensure(ctx, js, p.statusStream(partition)); err != nil {
			return err
		}
	}
	return p.ensure(ctx, js, p.deadStream())
}

// ensure creates a stream, or updates the one that is there.
func (p Provisioning) ensure(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) error {
	stream, err := js.Stream(ctx, want.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		_, err = js.CreateStream(ctx, want)
	case err == nil:
		_, err = js.UpdateStream(ctx, p.updated(stream.CachedInfo().Config, want))
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", want.Name, err)
	}
	return nil
}

// updated returns the configuration of a stream that is there with what has to
// change.
func (p Provisioning) updated(config, want jetstream.StreamConfig) jetstream.StreamConfig {
	config.Description, config.Subjects = want.Description, want.Subjects
	config.Retention, config.Discard, config.Storage, config.Compression = want.Retention, want.Discard, want.Storage, want.Compression
	config.MaxMsgSize, config.MaxMsgsPerSubject, config.Duplicates = want.MaxMsgSize, want.MaxMsgsPerSubject, want.Duplicates
	config.DenyDelete, config.DenyPurge, config.AllowDirect = want.DenyDelete, want.DenyPurge, want.AllowDirect
	config.AllowRollup, config.AllowMsgTTL, config.AllowMsgSchedules = false, false, false
	if config.Metadata == nil {
		config.Metadata = map[string]string{}
	}
	maps.Copy(config.Metadata, want.Metadata)
	if !p.KeepMaxAge && want.Name != DeadStream {
		config.MaxAge = want.MaxAge
	}
	if !p.KeepReplicas {
		config.Replicas = want.Replicas
	}
	return config
}

func (p Provisioning) statusStream(partition int) jetstream.StreamConfig {
	subjects := []string{compliance.StatusPrefix + ">"}
	if p.Layout.Partitions > 1 {
		own := compliance.PartitionPrefix + strconv.Itoa(partition) + ".>"
		if partition > 0 {
			subjects = nil
		}
		subjects = append(subjects, own)
	}
	return jetstream.StreamConfig{
		Name:        StreamName(p.Layout, partition),
		Description: "compliance status reports",
		Subjects:    subjects,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		Storage:     jetstream.FileStorage,
		Compression: jetstream.S2Compression,
		MaxAge:      p.MaxAge,
		MaxMsgSize:  maxReportBytes,
		Replicas:    max(p.Replicas, 1),
		Duplicates:  duplicateWindow,
		DenyDelete:  true,
		DenyPurge:   true,
		AllowDirect: true,
		Metadata: map[string]string{
			metaLayout:     strconv.Itoa(compliance.LayoutVersion),
			metaPartitions: strconv.Itoa(p.Layout.Partitions),
			metaBuckets:    strconv.Itoa(p.Layout.Buckets),
		},
	}
}

func (p Provisioning) deadStream() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              DeadStream,
		Description:       "compliance status reports that can never be applied",
		Subjects:          []string{compliance.DeadPrefix + ">"},
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardOld,
		Storage:           jetstream.FileStorage,
		Compression:       jetstream.S2Compression,
		MaxAge:            deadLetterAge,
		MaxMsgSize:        maxDeadLetterBytes,
		MaxMsgsPerSubject: 1,
		Replicas:          max(p.Replicas, 1),
		Duplicates:        duplicateWindow,
		AllowDirect:       true,
	}
}

// VersionError says that the streams name another layout version than this program's.
type VersionError struct {
	Stream string
	Layout compliance.Layout
	// Version is the one that the stream names.
	Version int
}

// Error says what is there, what was expected and what to do.
func (e *VersionError) Error() string {
	advice := "a newer complianced provisioned it: run that one"
	if e.older() {
		advice = "an older complianced provisioned it: stop every one of that version, empty its Redis and run complianced provision; " +
			"serve then makes the state anew from the stream, as far as the stream reaches"
	}
	return fmt.Sprintf("stream %s names layout version %d, expected is version %d; %s", e.Stream, e.Version, compliance.LayoutVersion, advice)
}

func (e *VersionError) older() bool { return e.Version < compliance.LayoutVersion }

// ReadLayout returns the layout that the streams were provisioned with. The
// error is [ErrNotProvisioned] where there are none, and [*VersionError] where they
// name another version.
func ReadLayout(ctx context.Context, js jetstream.JetStream) (compliance.Layout, error) {
	for _, name := range []string{"COMPLIANCE_STATUS", "COMPLIANCE_STATUS_0"} {
		stream, err := js.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return compliance.Layout{}, fmt.Errorf("stream %s: %w", name, err)
		}
		return parseLayout(name, stream.CachedInfo().Config.Metadata)
	}
	return compliance.Layout{}, ErrNotProvisioned
}

func parseLayout(stream string, meta map[string]string) (compliance.Layout, error) {
	version, errV := strconv.Atoi(meta[metaLayout])
	partitions, errP := strconv.Atoi(meta[metaPartitions])
	buckets, errB := strconv.Atoi(meta[metaBuckets])
	layout := compliance.Layout{Partitions: partitions, Buckets: buckets}
	switch err := errors.Join(errV, errP, errB); {
	case err != nil, version < 1, layout.Validate() != nil:
		return compliance.Layout{}, fmt.Errorf("stream %s was not made by complianced provision: its metadata names no known layout", stream)
	case version != compliance.LayoutVersion:
		return compliance.Layout{}, &VersionError{Stream: stream, Layout: layout, Version: version}
	}
	return layout, nil
}

// ProvisionedLayout is ReadLayout for whoever provisions: it returns the layout of an
// older version, too, which [Provision] brings up to this one.
func ProvisionedLayout(ctx context.Context, js jetstream.JetStream) (compliance.Layout, error) {
	layout, err := ReadLayout(ctx, js)
	if other, ok := errors.AsType[*VersionError](err); ok && other.older() {
		return other.Layout, nil
	}
	return layout, err
}

// MaxAge returns the age limit of the streams; 0 where there is none.
func MaxAge(ctx context.Context, js jetstream.JetStream, layout compliance.Layout) (time.Duration, error) {
	stream, err := js.Stream(ctx, StreamName(layout, 0))
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", StreamName(layout, 0), err)
	}
	return stream.CachedInfo().Config.MaxAge, nil
}

// Mapping returns the subject mapping that the NATS account needs for several
// partitions, as a line of a server's configuration; empty for one.
func Mapping(layout compliance.Layout) string {
	if layout.Partitions == 1 {
		return ""
	}
	return fmt.Sprintf(`mappings = {"compliance.status.*.*": "compliance.p.{{partition(%d,2)}}.{{wildcard(1)}}.{{wildcard(2)}}"}`, layout.Partitions)
}
