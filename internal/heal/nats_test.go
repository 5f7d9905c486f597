package heal_test

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

func TestNATSIsStopped(t *testing.T) {
	inTurn(t)
	d := deploy(t, appendOnly...)
	d.report()
	for range length.harms {
		d.run(length.seconds)
		must(t, d.nats.Stop(), d.nats.Start(t.Context()))
	}
	d.run(length.seconds)
	d.judge(inSequence)
}

// Redis is halted for a moment before, so that the worker holds reports whose dead
// letters it can send to nobody.
func TestNATSIsKilledWhileTheWorkerHoldsReports(t *testing.T) {
	inTurn(t)
	d := deploy(t, appendOnly...)
	d.report()
	for range length.harms {
		d.run(length.seconds)
		must(t, d.redis.Pause())
		d.run(0.5)
		must(t, d.nats.Kill(), d.redis.Resume(), d.nats.Start(t.Context()))
	}
	d.run(length.seconds)
	d.judge(inSequence)
}

// A floor that passes a report without its dead letter is found out when the letter
// can be kept again.
func TestDeadLettersAreRefusedForAWhile(t *testing.T) {
	inTurn(t)
	d := deploy(t, appendOnly...)
	d.report()
	for range length.harms {
		d.run(length.seconds)
		stream, err := d.js.Stream(t.Context(), deadStream)
		must(t, err)
		config := stream.CachedInfo().Config
		shut := config
		shut.Discard, shut.MaxMsgs = jetstream.DiscardNew, int64(stream.CachedInfo().State.Msgs)
		_, err = d.js.UpdateStream(t.Context(), shut)
		must(t, err)
		d.run(length.seconds / 2)
		_, err = d.js.UpdateStream(t.Context(), config)
		must(t, err)
	}
	d.run(length.seconds / 2)
	d.judge(inSequence)
}
