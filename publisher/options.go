package publisher

import (
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/complianced/complianced/compliance"
)

// Options says how a publisher connects and how long it tries. The zero value
// works.
type Options struct {
	// Name is the connection's name, as the operator of the server sees it.
	// Defaults to "complianced publisher". Connect only.
	Name string
	// NATS are further options of the connection: nats.UserCredentials,
	// nats.RootCAs, nats.ClientCert, handlers. They are applied last. Connect only.
	NATS []nats.Option
	// Device is the one device that this publisher reports for. Others are then
	// ErrInvalidKey, and PublishAndWait subscribes to this device's results
	// alone, which is all that an agent may be permitted. Defaults to any device.
	Device string
	// MaxAttempts is how often a report is tried. Defaults to 0: until the
	// context ends.
	MaxAttempts int
	// AckTimeout is how long one attempt waits for a connection and the PubAck.
	// Defaults to 2 s.
	AckTimeout time.Duration
	// RetryWait is the upper bound of the pause after the first attempt, which
	// doubles with each further one; a pause is a random share of its bound, so
	// that a fleet does not come back in one moment. Defaults to 100 ms.
	RetryWait time.Duration
	// RetryWaitMax is the greatest upper bound of a pause. Defaults to 5 s, or
	// to RetryWait where that is longer.
	RetryWaitMax time.Duration
	// ResultTimeout is how long PublishAndWait waits for a result after the
	// PubAck. Defaults to 65 s: no worker sends the result of a report that was
	// stored more than a minute ago.
	ResultTimeout time.Duration
	// MaxInFlight is how many reports of PublishAsync may be under way at once;
	// those of Publish and PublishAndWait do not count. Defaults to 256.
	MaxInFlight int
	// Now is the clock that event times come from; it is called from many
	// goroutines at once. Defaults to time.Now.
	Now func() time.Time
}

func (o Options) validate() error {
	if o.MaxAttempts < 0 || o.AckTimeout < 0 || o.RetryWait < 0 || o.RetryWaitMax < 0 || o.ResultTimeout < 0 || o.MaxInFlight < 0 {
		return errors.New("publisher options: a number or a duration is negative; leave it at 0 for the default")
	}
	if o.Device != "" && !compliance.ValidID(o.Device) {
		return ErrInvalidKey
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.Name == "" {
		o.Name = "complianced publisher"
	}
	if o.AckTimeout == 0 {
		o.AckTimeout = 2 * time.Second
	}
	if o.RetryWait == 0 {
		o.RetryWait = 100 * time.Millisecond
	}
	if o.RetryWaitMax == 0 {
		o.RetryWaitMax = max(5*time.Second, o.RetryWait)
	}
	if o.ResultTimeout == 0 {
		o.ResultTimeout = 65 * time.Second
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = 256
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}
