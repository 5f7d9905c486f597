package mask_test

import (
	"testing"

	"github.com/complianced/complianced/internal/mask"
)

func TestNoSubjectOfThisProgramIsLeft(t *testing.T) {
	for text, want := range map[string]string{
		`nats: Permissions Violation for Publish to "compliance.result.laptop-7.tok"`: `nats: Permissions Violation for Publish to "compliance.…"`,
		`Internal subscription on "compliance.status.p1.laptop-7" took too long: 2s`:  `Internal subscription on "compliance.…" took too long: 2s`,
		`compliance.p.3.p1.laptop-7 and compliance.dead.invalidStatus.S.1.AB`:         `compliance.… and compliance.…`,
		`[compliance.status.p1.laptop-7]`:                                             `[compliance.…]`,
		`Permissions Violation for Subscription to "_INBOX.a.b"`:                      `Permissions Violation for Subscription to "_INBOX.a.b"`,
		`dial tcp 127.0.0.1:4222: connection refused`:                                 `dial tcp 127.0.0.1:4222: connection refused`,
	} {
		if have := mask.Subjects(text); have != want {
			t.Errorf("%s\nwant %s\nhave %s", text, want, have)
		}
	}
}
