package heal_test

import (
	"testing"
	"time"

	"github.com/complianced/complianced/internal/rig"
)

func TestAWorkerIsKilled(t *testing.T) {
	inTurn(t)
	d := deploy(t, appendOnly...)
	d.report()
	for range 2 * length.harms {
		d.run(length.seconds / 2)
		must(t, d.worker.Kill())
		d.run(length.seconds / 4)
		must(t, d.worker.Start(t.Context()))
	}
	d.run(length.seconds / 2)
	d.judge(inSequence)
}

func TestAWorkerIsStopped(t *testing.T) {
	inTurn(t)
	d := deploy(t, appendOnly...)
	d.report()
	for range length.harms {
		d.run(length.seconds)
		must(t, d.worker.Stop())
		if status := d.worker.ExitStatus(); status != 0 {
			t.Errorf("serve ended with %d when asked to stop", status)
		}
		d.run(length.seconds / 4)
		must(t, d.worker.Start(t.Context()))
	}
	d.run(length.seconds / 2)
	d.judge(inSequence)
}

func TestOneOfTwoWorkersIsKilled(t *testing.T) {
	inTurn(t)
	d := deploy(t, appendOnly...)
	other := d.another(d.redis)
	d.start(other.Process)
	d.report()
	for range length.harms {
		for _, w := range []*rig.Worker{d.worker, other} {
			d.run(length.seconds / 2)
			must(t, w.Kill())
			d.run(length.seconds / 2)
			must(t, w.Start(t.Context()))
		}
	}
	d.run(length.seconds / 2)
	d.judge(inSequence)
}

// While a reply is held back the other worker builds on what the transaction did.
func TestRepliesToOneOfTwoWorkersAreLost(t *testing.T) {
	inTurn(t)
	d := deploy(t, appendOnly...)
	p := startProxy(t, d.redis.Address, 300*time.Millisecond)
	d.start(d.another(&rig.Redis{Address: p.address()}).Process)
	d.report("--policies", "1")
	for n := range int64(8 * length.harms) {
		d.run(length.seconds / 10)
		p.armed.Store(1)
		eventually(t, "a lost reply", func() bool { return p.lost.Load() > n })
	}
	d.run(length.seconds / 2)
	d.judge(inSequence)
}
