// Package mask takes out of a text what belongs in no log.
package mask

import "regexp"

// ours matches subjects of this program: compliance.status.<policy>.<device> and all others.
var ours = regexp.MustCompile(`compliance\.[a-z]+\.[^\s"'\]]+`)

// Subjects returns the text with each subject of this program cut short, because they hold policies and devices.
// What NATS says about a subscription that is slow or a publish that is not allowed, for example, names the subject.
func Subjects(text string) string { return ours.ReplaceAllString(text, "compliance.…") }
