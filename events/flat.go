package events

// Most bodies on the hot path are flat: one object of short plain strings and whole
// numbers. They are read here without reflection, more than twice as fast as by the strict
// decoder; whatever is not as plain as that, wrong bodies among them, is left to it. So
// what this reader takes must be what the strict decoder takes, with the same result; a
// fuzz test holds the two together.

// Flat is implemented by bodies that can be read so.
type Flat interface {
	// Member sets the member called name and says whether there is one that takes such
	// a value.
	Member(name []byte, v Scalar) bool
	// Reset makes everything that Member sets zero again.
	Reset()
}

// Scalar is a member's value: a string without escapes in printable ASCII, or a whole
// number of up to 15 digits.
type Scalar struct {
	text   []byte // of a string, nil for a number
	number int64
}

// String sets a string.
func (v Scalar) String(p *string) bool {
	if v.text == nil {
		return false
	}
	switch string(v.text) { // compiled without an allocation; these need no string of their own
	case Test:
		*p = Test
	case Live:
		*p = Live
	case Read:
		*p = Read
	case Write:
		*p = Write
	case "credits":
		*p = "credits"
	default:
		*p = string(v.text)
	}
	return true
}

// Int sets a number.
func (v Scalar) Int(p *int64) bool {
	*p = v.number
	return v.text == nil
}

// OptionalInt sets a number that may be absent.
func (v Scalar) OptionalInt(p **int64) bool {
	n := v.number
	*p = &n
	return v.text == nil
}

// flatMembers is how many members a flat body may have.
const flatMembers = 16

type flatMember struct {
	name  []byte
	value Scalar
}

// decodeFlat reads a whole body, or says that it did not.
func decodeFlat(body []byte, into Flat) bool {
	var room [flatMembers]flatMember
	members, end, ok := scanFlat(body, skipSpace(body, 0), room[:0])
	if !ok || skipSpace(body, end) != len(body) {
		return false
	}
	for i := range members {
		if !into.Member(members[i].name, members[i].value) {
			into.Reset()
			return false
		}
	}
	return true
}

// FlatItems returns the items of an array of flat objects as they stand in body, false
// where it is anything else.
func FlatItems(body []byte) (items [][]byte, ok bool) {
	at := skipSpace(body, 0)
	if at == len(body) || body[at] != '[' {
		return nil, false
	}
	var room [flatMembers]flatMember
	for {
		begin := skipSpace(body, at+1)
		_, end, ok := scanFlat(body, begin, room[:0])
		if !ok {
			return nil, false
		}
		items = append(items, body[begin:end:end])
		if at = skipSpace(body, end); at == len(body) {
			return nil, false
		}
		switch body[at] {
		case ',':
		case ']':
			return items, skipSpace(body, at+1) == len(body)
		default:
			return nil, false
		}
	}
}

// scanFlat reads the flat object that begins at b[i] and returns where it ends. No name
// stands twice.
func scanFlat(b []byte, i int, members []flatMember) ([]flatMember, int, bool) {
	if i >= len(b) || b[i] != '{' {
		return nil, i, false
	}
	if i = skipSpace(b, i+1); i < len(b) && b[i] == '}' {
		return members, i + 1, true
	}
	for len(members) < flatMembers {
		var m flatMember
		var ok bool
		if m.name, i, ok = scanString(b, i); !ok {
			return nil, i, false
		}
		for j := range members {
			if string(members[j].name) == string(m.name) {
				return nil, i, false
			}
		}
		if i = skipSpace(b, i); i == len(b) || b[i] != ':' {
			return nil, i, false
		}
		if m.value, i, ok = scanScalar(b, skipSpace(b, i+1)); !ok {
			return nil, i, false
		}
		members = append(members, m)
		if i = skipSpace(b, i); i == len(b) {
			return nil, i, false
		}
		switch b[i] {
		case '}':
			return members, i + 1, true
		case ',':
			i = skipSpace(b, i+1)
		default:
			return nil, i, false
		}
	}
	return nil, i, false
}

func scanScalar(b []byte, i int) (Scalar, int, bool) {
	if i < len(b) && b[i] == '"' {
		text, end, ok := scanString(b, i)
		return Scalar{text: text}, end, ok
	}
	begin := i
	var n int64
	for ; i < len(b) && '0' <= b[i] && b[i] <= '9' && i-begin < 16; i++ {
		n = 10*n + int64(b[i]-'0')
	}
	digits := i - begin
	// What follows must end the number: a fraction or an exponent is not for us.
	ended := i < len(b) && (b[i] == ',' || b[i] == '}' || skipSpace(b, i) > i)
	return Scalar{number: n}, i, ended && digits > 0 && digits < 16 && (digits == 1 || b[begin] != '0')
}

func scanString(b []byte, i int) (text []byte, end int, ok bool) {
	if i >= len(b) || b[i] != '"' {
		return nil, i, false
	}
	for end = i + 1; end < len(b); end++ {
		switch c := b[end]; {
		case c == '"':
			return b[i+1 : end : end], end + 1, true
		case c < ' ' || c >= 0x7f || c == '\\':
			return nil, end, false
		}
	}
	return nil, end, false
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}
