package events

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Limits of Filters.
const (
	MaxFilterBytes = 8 << 10 // of their JSON, compacted
	MaxFilterNodes = 200     // filters within filters included, each compared attribute one
	MaxFilterDepth = 8       // filters within filters
)

// Filters choose events by their context attributes: a list of filters in the dialects
// exact, prefix, suffix, all, any and not of CloudEvents Subscriptions (1.0-wip, §3.2.4),
// all of which must hold. The zero Filters let every event pass. They never change.
//
// exact, prefix and suffix have attributes and what is compared with them, with case; an
// attribute that the event does not have fits nothing. The attributes are those that are
// the same for every receiver: FilterAttributes.
type Filters struct {
	all  []filter
	json jsontext.Value
}

// filter is one filter: a dialect with either an attribute or filters within.
type filter struct {
	dialect string
	name    attribute // exact, prefix, suffix
	value   string
	within  []filter // all, any, not
}

const (
	filterExact  = "exact"
	filterPrefix = "prefix"
	filterSuffix = "suffix"
	filterAll    = "all"
	filterAny    = "any"
	filterNot    = "not"

	filterDialects = "exact, prefix, suffix, all, any, not"
)

// filterAttributes can be compared, by name.
var filterAttributes = func() map[string]attribute {
	m := map[string]attribute{}
	for a := attrSpecVersion; a <= attrPartitionKey; a++ {
		m[attributeNames[a]] = a
	}
	return m
}()

// FilterAttributes returns the names of the attributes that filters can compare, sorted.
func FilterAttributes() []string {
	list := make([]string, 0, len(filterAttributes))
	for name := range filterAttributes {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// ParseFilters reads a JSON array of filters; nothing, null and [] are the zero Filters.
// What is wrong is InvalidArgument, and names the place.
func ParseFilters(b []byte) (Filters, *Error) {
	text := jsontext.Value(slices.Clone(b))
	if len(text) == 0 || text.Kind() == 'n' {
		return Filters{}, nil
	}
	if err := text.Compact(); err != nil {
		return Filters{}, Errorf(InvalidArgument, "filters: %s", jsonMessage(err))
	}
	if len(text) > MaxFilterBytes {
		return Filters{}, Errorf(InvalidArgument, "filters have %d bytes, at most %d are allowed", len(text), MaxFilterBytes)
	}
	p := filterParser{}
	list := p.list("filters", text, 1)
	if p.err != nil {
		return Filters{}, p.err
	}
	if len(list) == 0 {
		return Filters{}, nil
	}
	return Filters{all: list, json: text}, nil
}

// JSON returns the filters as they were read, without white space; nil of the zero Filters.
func (f Filters) JSON() jsontext.Value { return f.json }

// Match says whether an event fits every filter. It looks at the attributes alone, so an
// event without data will do.
func (f Filters) Match(e *CloudEvent) bool {
	for i := range f.all {
		if !f.all[i].match(e) {
			return false
		}
	}
	return true
}

func (f *filter) match(e *CloudEvent) bool {
	fits := func(within filter) bool { return within.match(e) }
	switch f.dialect {
	case filterAll:
		return !slices.ContainsFunc(f.within, func(within filter) bool { return !within.match(e) })
	case filterAny:
		return slices.ContainsFunc(f.within, fits)
	case filterNot:
		return !f.within[0].match(e)
	}
	value := e.filtered(f.name)
	switch {
	case value == "": // the event does not have it
		return false
	case f.dialect == filterExact:
		return value == f.value
	case f.dialect == filterPrefix:
		return strings.HasPrefix(value, f.value)
	}
	return strings.HasSuffix(value, f.value)
}

// filtered returns an attribute as it is written, "" where it is absent. The common ones cost nothing.
func (e *CloudEvent) filtered(name attribute) string {
	switch name {
	case attrType:
		return byName[e.Type].CloudEventType()
	case attrSubject:
		return e.Subject
	case attrEnvironment:
		return e.Environment
	case attrPartitionKey:
		return e.PartitionKey()
	}
	return e.attributes()[name]
}

// filterParser reads filters; after the first error it reads nothing more.
type filterParser struct {
	nodes int
	err   *Error
}

func (p *filterParser) refuse(at, format string, args ...any) {
	if p.err == nil {
		p.err = Errorf(InvalidArgument, "%s: %s", at, fmt.Sprintf(format, args...))
	}
}

// members reads an object or an array without reading what is in it.
func members[T map[string]jsontext.Value | []jsontext.Value](p *filterParser, at string, text jsontext.Value, want string) T {
	var out T
	if err := json.Unmarshal(text, &out); err != nil {
		p.refuse(at, "must be %s", want)
	}
	return out
}

func (p *filterParser) list(at string, text jsontext.Value, depth int) []filter {
	if text.Kind() != '[' {
		p.refuse(at, "must be an array of filters")
		return nil
	}
	var out []filter
	for i, one := range members[[]jsontext.Value](p, at, text, "an array of filters") {
		out = append(out, p.one(at+"["+strconv.Itoa(i)+"]", one, depth))
		if p.err != nil {
			return nil
		}
	}
	return out
}

// one reads one filter: an object with its dialect as the only member.
func (p *filterParser) one(at string, text jsontext.Value, depth int) filter {
	if depth > MaxFilterDepth {
		p.refuse(at, "filters within filters go %d deep at most", MaxFilterDepth)
	}
	if p.nodes++; p.nodes > MaxFilterNodes {
		p.refuse(at, "filters have more than %d parts", MaxFilterNodes)
	}
	if text.Kind() != '{' {
		p.refuse(at, "must be an object with one of %s", filterDialects)
	}
	if p.err != nil {
		return filter{}
	}
	object := members[map[string]jsontext.Value](p, at, text, "an object")
	if len(object) != 1 {
		p.refuse(at, "must have exactly one member, one of %s", filterDialects)
		return filter{}
	}
	for dialect, value := range object {
		at += "." + dialect
		switch dialect {
		case filterExact, filterPrefix, filterSuffix:
			return p.compared(at, dialect, value)
		case filterAll, filterAny:
			within := p.list(at, value, depth+1)
			if len(within) == 0 {
				p.refuse(at, "must have at least one filter")
			}
			return filter{dialect: dialect, within: within}
		case filterNot:
			return filter{dialect: dialect, within: []filter{p.one(at, value, depth+1)}}
		}
		p.refuse(at, "is no dialect; known are %s", filterDialects)
	}
	return filter{}
}

// compared reads attributes and what they are compared with. Several are filters within
// an all.
func (p *filterParser) compared(at, dialect string, text jsontext.Value) filter {
	if text.Kind() != '{' {
		p.refuse(at, "must be an object of attributes")
		return filter{}
	}
	all := filter{dialect: filterAll}
	object := members[map[string]jsontext.Value](p, at, text, "an object of attributes")
	names := make([]string, 0, len(object))
	for name := range object {
		names = append(names, name)
	}
	slices.Sort(names) // the first error is the same each time
	for _, name := range names {
		attr, ok := filterAttributes[name]
		if !ok {
			p.refuse(at, "%.40q is no attribute that can be compared; these can: %s", name, strings.Join(FilterAttributes(), ", "))
		}
		var value string
		if err := json.Unmarshal(object[name], &value); err != nil || object[name].Kind() != '"' || value == "" {
			p.refuse(at+"."+name, "must be a text that is not empty")
		}
		if p.nodes++; p.nodes > MaxFilterNodes {
			p.refuse(at, "filters have more than %d parts", MaxFilterNodes)
		}
		all.within = append(all.within, filter{dialect: dialect, name: attr, value: value})
	}
	switch len(all.within) {
	case 0:
		p.refuse(at, "must have at least one attribute")
	case 1:
		return all.within[0]
	}
	return all
}

// KeyOf returns the id of the key that an event is about: its subject if that is a key,
// else the key that its data names, such as a hold's; "" where there is none.
func KeyOf(e *Event) string {
	if strings.HasPrefix(e.Subject, "key_") {
		return e.Subject
	}
	switch d := e.Data.(type) {
	case *Held:
		return d.Hold.Key
	case *Debited:
		return d.Debit.Key
	case *Refunded:
		return d.Refund.Key
	}
	return ""
}
