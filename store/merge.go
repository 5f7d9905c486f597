package store

import (
	"time"

	"github.com/complianced/complianced/compliance"
)

// mergeOne merges one report into a record in sequence: a tombstone that had
// expired when the report was stored is as good as gone, whether or not it was
// taken away yet, so that the outcome does not depend on how batches are cut.
func mergeOne(record *compliance.Record, report *compliance.Report, keep time.Duration) (compliance.Effect, compliance.PropertySet) {
	if record.Expired(report.Stored, keep) {
		*record = compliance.Record{}
	}
	change, outcome := record.Merge(report)
	effect := compliance.Effect{Outcome: outcome, Before: change.Before, After: change.After}
	if report.Reply != "" && record.Exists() {
		effect.Record = record.JSON(report.Key.Device)
	}
	return effect, change.Moved
}
