package compliance

// Status is a member of the enumeration complianceStatus.
type Status uint8

// The members of complianceStatus, with their numbers.
const (
	StatusUnknown       Status = 0
	StatusNotApplicable Status = 1
	StatusCompliant     Status = 2
	StatusRemediated    Status = 3
	StatusNonCompliant  Status = 4
	StatusError         Status = 5
	StatusConflict      Status = 6
	StatusNotAssigned   Status = 7
)

// NumStatuses is the number of members of complianceStatus.
const NumStatuses = 8

var statusNames = [NumStatuses]string{
	"unknown", "notApplicable", "compliant", "remediated", "nonCompliant", "error", "conflict", "notAssigned",
}

// Statuses returns all members in the order of their numbers.
func Statuses() []Status {
	return []Status{
		StatusUnknown, StatusNotApplicable, StatusCompliant, StatusRemediated,
		StatusNonCompliant, StatusError, StatusConflict, StatusNotAssigned,
	}
}

// ParseStatus returns the member with exactly this name, case included.
func ParseStatus(name string) (Status, bool) {
	for s, n := range statusNames {
		if n == name {
			return Status(s), true
		}
	}
	return 0, false
}

// Valid reports whether s is a member of the enumeration.
func (s Status) Valid() bool { return s < NumStatuses }

// String returns the member's name; a status that is no member is unknown.
func (s Status) String() string {
	if !s.Valid() {
		return statusNames[StatusUnknown]
	}
	return statusNames[s]
}

// Severity ranks the members from the best to the worst, from 0: notAssigned, unknown,
// notApplicable, compliant, remediated, nonCompliant, conflict, error. The status of a
// device is the worst of its records.
func (s Status) Severity() int { return severities[s] }

var severities = [NumStatuses]int{
	StatusNotAssigned: 0, StatusUnknown: 1, StatusNotApplicable: 2, StatusCompliant: 3,
	StatusRemediated: 4, StatusNonCompliant: 5, StatusConflict: 6, StatusError: 7,
}

// NeedsAttention reports whether somebody should look after a record with this status:
// unknown, nonCompliant, conflict and error.
func (s Status) NeedsAttention() bool {
	switch s {
	case StatusUnknown, StatusNonCompliant, StatusConflict, StatusError:
		return true
	case StatusNotApplicable, StatusCompliant, StatusRemediated, StatusNotAssigned:
	}
	return false
}

// stored returns the stored bytes of the status: its number.
func (s Status) stored() string { return "01234567"[s : s+1] }

// storedStatus is the inverse of stored; what is no number of a member reads as
// unknown.
func storedStatus(text string) Status {
	if len(text) == 1 && text[0] >= '0' && text[0] < '0'+NumStatuses {
		return Status(text[0] - '0')
	}
	return StatusUnknown
}
