package graph

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/complianced/complianced/compliance"
)

// listBudget is how long a page of a list is filled. One that is not full then has a next
// page all the same.
const listBudget = time.Second

// get answers the GET of a record: the documented object, with what it counts as in
// annotations.
func (h *handler) get(r *request) (answer, *problem) {
	q, problem := parseOptions(r.URL, optionSelect)
	if problem != nil {
		return answer{}, problem
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.ReadTimeout)
	defer cancel()
	record, err := h.reader.Get(ctx, r.key)
	switch {
	case err != nil:
		return answer{}, stateAway(err)
	case !record.Exists():
		return answer{}, noRecord()
	}
	object := h.object(r.key.Device, &record, q.selected)
	return answer{status: http.StatusOK, body: withContext(object, h.base(r.Request)+r.context(q.selection()))}, nil
}

func stateAway(err error) *problem {
	return unavailable("the state cannot be read now; try again", err)
}

// object returns a record as a client sees it.
func (h *handler) object(device string, record *compliance.Record, selected []compliance.Property) []byte {
	object := record.JSON(device)
	if len(selected) > 0 {
		object = only(object, selected)
	}
	return record.Facts().At(h.Now(), h.Validity).Annotate(object)
}

// only returns an object with the selected members, and its type.
func only(object []byte, selected []compliance.Property) []byte {
	d := jsontext.NewDecoder(bytes.NewReader(object))
	short := []byte{'{'}
	_, err := d.ReadToken()
	for err == nil && d.PeekKind() == '"' {
		var name, value jsontext.Value
		if name, err = d.ReadValue(); err != nil {
			break
		}
		name = name.Clone()
		if value, err = d.ReadValue(); err != nil {
			break
		}
		text, _ := strconv.Unquote(string(name)) // Names of properties have no escapes.
		isSelected := slices.ContainsFunc(selected, func(p compliance.Property) bool { return p.String() == text })
		if !isSelected && text != "@odata.type" {
			continue
		}
		if len(short) > 1 {
			short = append(short, ',')
		}
		short = append(append(append(short, name...), ':'), value...)
	}
	if err != nil {
		panic("graph: a record that is not a JSON object: " + err.Error()) // It is of package compliance.
	}
	return append(short, '}')
}

// withContext puts the @odata.context before the members of an object.
func withContext(object []byte, address string) []byte {
	head := append([]byte(`{"@odata.context":`), encode(address)...)
	if rest := bytes.TrimPrefix(object, []byte{'{'}); !bytes.HasPrefix(rest, []byte{'}'}) {
		head = append(head, ',')
		return append(head, rest...)
	}
	return append(head, '}')
}

// list answers the GET of a list.
func (h *handler) list(r *request) (answer, *problem) {
	q, problem := parseOptions(r.URL, optionFilter, optionSelect, optionTop, optionCount, optionSkipToken)
	if problem != nil {
		return answer{}, problem
	}
	if problem := r.held.enter(h.lists); problem != nil {
		return answer{}, problem
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.ReadTimeout)
	defer cancel()
	at := place{}
	if q.skipToken != "" {
		if at, problem = h.follow(r.key.Policy, &q); problem != nil {
			return answer{}, problem
		}
	} else if q.count {
		if at.count, problem = h.count(ctx, r.key.Policy, &q); problem != nil {
			return answer{}, problem
		}
	}
	page, problem := h.fill(ctx, r.key.Policy, &q, at.cursor)
	if problem != nil {
		return answer{}, problem
	}
	at.cursor = page.Next
	return answer{status: http.StatusOK, body: h.listBody(r, &q, page, at)}, nil
}

// fill reads pages until one of the client's is full, the list is at its end, or enough
// time was spent.
func (h *handler) fill(ctx context.Context, policy string, q *options, cursor string) (Page, *problem) {
	full := Page{Next: cursor}
	if q.top == 0 {
		full.Next = ""
		return full, nil
	}
	statuses := q.filter.statuses()
	if len(statuses) == 0 {
		full.Next = ""
		return full, nil
	}
	begun := h.Now()
	for {
		page, err := h.reader.List(ctx, Query{
			Policy: policy, Statuses: statuses, Match: q.filter.match(), Cursor: full.Next, Limit: q.top - len(full.Items),
		})
		switch {
		case errors.Is(err, ErrCursor):
			return full, expiredLink()
		case err != nil:
			return full, stateAway(err)
		}
		full.Items = append(full.Items, page.Items...)
		full.Unreadable += page.Unreadable
		full.Next = page.Next
		if full.Next == "" || len(full.Items) >= q.top || h.Now().Sub(begun) > listBudget {
			return full, nil
		}
	}
}

// count returns how many records the filter has. Where it asks for the status alone, the
// counts say so; otherwise all records are looked at.
func (h *handler) count(ctx context.Context, policy string, q *options) (int, *problem) {
	if q.filter.exact() {
		counts, err := h.reader.Counts(ctx, policy)
		if err != nil {
			return 0, stateAway(err)
		}
		n := 0
		for _, s := range q.filter.statuses() {
			n += counts.Statuses[s]
		}
		return n, nil
	}
	n, cursor := 0, ""
	for {
		page, err := h.reader.List(ctx, Query{
			Policy: policy, Statuses: q.filter.statuses(), Match: q.filter.match(), Cursor: cursor, Limit: MaxTop,
		})
		switch {
		case err != nil && cursor != "" && errors.Is(ctx.Err(), context.DeadlineExceeded):
			return 0, badRequest(codeNotSupported, string(optionCount),
				"there are too many records to count those of this filter: leave out $count, or filter by status alone")
		case err != nil:
			return 0, stateAway(err)
		}
		n += len(page.Items)
		if cursor = page.Next; cursor == "" {
			return n, nil
		}
	}
}

func (h *handler) listBody(r *request, q *options, page Page, at place) []byte {
	base := h.base(r.Request)
	body := append([]byte(`{"@odata.context":`), encode(base+r.context(q.selection()))...)
	if q.count {
		body = strconv.AppendInt(append(body, `,"@odata.count":`...), int64(at.count), 10)
	}
	if page.Unreadable > 0 {
		body = strconv.AppendInt(append(body, `,"@compliance.unreadable":`...), int64(page.Unreadable), 10)
	}
	body = append(body, `,"value":[`...)
	for i := range page.Items {
		if i > 0 {
			body = append(body, ',')
		}
		item := &page.Items[i]
		body = append(body, h.object(item.Device, &item.Record, q.selected)...)
	}
	body = append(body, ']')
	if at.cursor != "" {
		link := base + r.address() + "?" + q.encode(url.Values{string(optionSkipToken): {h.link(r.key.Policy, q, at)}})
		body = append(append(body, `,"@odata.nextLink":`...), encode(link)...)
	}
	return append(body, '}')
}

// The resource deviceComplianceDeviceOverview of Microsoft Graph.
const overviewType = "#microsoft.graph.deviceComplianceDeviceOverview"

// overview answers the GET of the counts.
func (h *handler) overview(r *request) (answer, *problem) {
	if _, problem := parseOptions(r.URL); problem != nil {
		return answer{}, problem
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.ReadTimeout)
	defer cancel()
	counts, err := h.reader.Counts(ctx, r.key.Policy)
	if err != nil {
		return answer{}, stateAway(err)
	}
	of := func(statuses ...compliance.Status) (n int) {
		for _, s := range statuses {
			n += counts.Statuses[s]
		}
		return n
	}
	updated := compliance.NeverReported
	if !counts.Until.IsZero() {
		updated = compliance.FormatStored(counts.Until)
	}
	body := fmt.Appendf(nil, `{"@odata.context":%s,"@odata.type":%q,"id":%q,"pendingCount":%d,"notApplicableCount":%d,`+
		`"successCount":%d,"errorCount":%d,"failedCount":%d,"conflictCount":%d,"lastUpdateDateTime":%q}`,
		encode(h.base(r.Request)+r.context("")), overviewType, r.key.Policy,
		of(compliance.StatusUnknown, compliance.StatusNotAssigned), of(compliance.StatusNotApplicable),
		of(compliance.StatusCompliant, compliance.StatusRemediated), of(compliance.StatusError),
		of(compliance.StatusNonCompliant), of(compliance.StatusConflict), updated)
	return answer{status: http.StatusOK, body: body}, nil
}
