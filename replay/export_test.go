package replay

// NewReport is a report from the stream of a partition, of so many.
var NewReport = newReport
