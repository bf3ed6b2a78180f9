package events_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
)

// drawEvent draws an event of any type with any content.
func drawEvent(t *rapid.T) events.Event {
	kind := events.Catalog[rapid.IntRange(0, len(events.Catalog)-1).Draw(t, "kind")]
	data := kind.New()
	drawInto(t, reflect.ValueOf(data).Elem(), kind.Name)
	derive(reflect.ValueOf(data).Elem())
	text := rapid.String()
	return events.Event{
		Type: kind.Name, Account: text.Draw(t, "account"), Environment: text.Draw(t, "environment"),
		Subject: text.Draw(t, "subject"), Data: data,
	}
}

// derive sets what is not stored but follows from what is: a key's last use, and of money
// the environment, the asset and what is available.
func derive(v reflect.Value) {
	for _, name := range []string{"LastUsedAt", "LastUsedIP", "LastUsedProduct"} {
		if used := v.FieldByName(name); used.IsValid() {
			used.SetZero()
		}
	}
	for _, name := range []string{"From", "To"} {
		if leg := v.FieldByName(name); leg.IsValid() && leg.Kind() == reflect.Struct {
			derive(leg)
			v.FieldByName("Environment").Set(leg.FieldByName("Balance").FieldByName("Environment"))
		}
	}
	field := v.FieldByName("Balance")
	if !field.IsValid() {
		return
	}
	b := field.Addr().Interface().(*events.Balance)
	b.Available = b.Posted - b.Held
	if e := v.FieldByName("Environment"); e.IsValid() {
		e.SetString(b.Environment)
	}
	v.FieldByName("Asset").SetString(b.Asset)
}

// drawInto fills v with what a decoder can return: byte strings are nil when empty,
// other lists are not, except where nil has a meaning of its own.
func drawInto(t *rapid.T, v reflect.Value, name string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(rapid.String().Draw(t, name))
	case reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, name))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, name))
	case reflect.Uint8:
		v.SetUint(uint64(rapid.Byte().Draw(t, name)))
	case reflect.Array:
		for i := range v.Len() {
			drawInto(t, v.Index(i), name)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			drawInto(t, v.Field(i), v.Type().Field(i).Name)
		}
	case reflect.Pointer:
		if rapid.Bool().Draw(t, name+" is there") {
			v.Set(reflect.New(v.Type().Elem()))
			drawInto(t, v.Elem(), name)
		}
	case reflect.Map:
		drawMap(t, v, name)
	case reflect.Slice:
		drawSlice(t, v, name)
	default:
		t.Fatalf("%s: no way to draw a %s: add one", name, v.Kind())
	}
}

func drawMap(t *rapid.T, v reflect.Value, name string) {
	n := rapid.IntRange(0, 3).Draw(t, "length of "+name)
	if n == 0 && name != "Per" {
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for range n {
		element := reflect.New(v.Type().Elem()).Elem()
		drawInto(t, element, name)
		v.SetMapIndex(reflect.ValueOf(rapid.String().Draw(t, "name in "+name)), element)
	}
}

func drawSlice(t *rapid.T, v reflect.Value, name string) {
	n := rapid.IntRange(0, 4).Draw(t, "length of "+name)
	element := v.Type().Elem().Kind()
	switch {
	case n == 0 && (element == reflect.Uint8 || element == reflect.Slice || element == reflect.Struct):
		return
	case v.Type() == reflect.TypeFor[events.Products]() && rapid.Bool().Draw(t, name+" is nil"):
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), n, n))
	for i := range n {
		drawInto(t, v.Index(i), name)
	}
}

// TestCoderRoundTrip: what is read is what was written, and is written the same again.
// rapid prints the seed of a failure; -rapid.seed takes it back.
func TestCoderRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		event := drawEvent(t)
		stored := store(t, &event)
		got := load(t, stored)
		if !cmp.Equal(event, got) {
			t.Fatalf("read something else:\n%s", cmp.Diff(event, got))
		}
		if again := store(t, &got); !bytes.Equal(stored, again) {
			t.Fatalf("written differently the second time:\n%x\n%x", stored, again)
		}
	})
}

// TestCoderKeepsNothing: a reader's input may be reused once it is read.
func TestCoderKeepsNothing(t *testing.T) {
	for i := range events.Catalog {
		want := sampleEvent(t, &events.Catalog[i])
		stored := store(t, &want)
		got := load(t, stored)
		clear(stored)
		if !cmp.Equal(want, got) {
			t.Errorf("%s shares memory with what it was read from:\n%s", want.Type, cmp.Diff(want, got))
		}
	}
}

// TestWritingChangesNothing: the objects that views keep and share may be written while
// others read them. The race detector sees whether that writes to them.
func TestWritingChangesNothing(t *testing.T) {
	var all []events.Data
	for i := range events.Catalog {
		switch d := sampleEvent(t, &events.Catalog[i]).Data.(type) {
		case *events.Account, *events.Key, *events.Endpoint:
			all = append(all, d, events.Catalog[i].New())
		case *events.Held:
			all = append(all, &d.Hold)
		}
	}
	for _, d := range all {
		events.NewWriter(nil).Nested(d) // as the writer does, before it shares it
		var group sync.WaitGroup
		for range 2 {
			group.Go(func() { events.NewWriter(nil).Nested(d) })
		}
		group.Wait()
	}
}

// TestEventCutShort: an event that lacks bytes is refused, at whatever length.
func TestEventCutShort(t *testing.T) {
	for i := range events.Catalog {
		event := sampleEvent(t, &events.Catalog[i])
		stored := store(t, &event)
		for n := range stored {
			var got events.Event
			r := events.NewReader(stored[:n])
			if got.Code(r); r.Err() == nil {
				t.Errorf("%s cut from %d to %d bytes was read", event.Type, len(stored), n)
			}
		}
	}
}

// TestPayloadOfAnOlderProgram: a payload may end at a field, because later programs add
// fields at its end; what is missing is zero. It may not end anywhere else, above all
// not in the middle of a list.
func TestPayloadOfAnOlderProgram(t *testing.T) {
	for i := range events.Catalog {
		kind := &events.Catalog[i]
		sample := sampleEvent(t, kind).Data
		w := events.NewWriter(nil)
		sample.Code(w)
		refused := 0
		for n := range w.Bytes() {
			data := kind.New()
			r := events.NewReader(w.Bytes()[:n])
			if data.Code(r); errors.Is(r.Err(), events.ErrShort) {
				refused++
				continue
			}
			if r.Err() != nil {
				t.Errorf("%s cut to %d bytes: %v, want %v", kind.Name, n, r.Err(), events.ErrShort)
			}
			for _, field := range halfRead(reflect.ValueOf(data).Elem(), reflect.ValueOf(sample).Elem(), "") {
				t.Errorf("%s cut to %d bytes has half of %s", kind.Name, n, field)
			}
		}
		if refused == 0 {
			t.Errorf("%s: nothing was refused", kind.Name)
		}
	}
}

// halfRead names the lists and strings in got that are neither empty nor those of want.
func halfRead(got, want reflect.Value, path string) []string {
	switch got.Kind() {
	case reflect.Struct:
		var names []string
		for i := range got.NumField() {
			names = append(names, halfRead(got.Field(i), want.Field(i), path+"."+got.Type().Field(i).Name)...)
		}
		return names
	case reflect.Pointer:
		if got.IsNil() || got.Elem().Kind() != reflect.Struct {
			break
		}
		return halfRead(got.Elem(), want.Elem(), path)
	case reflect.Slice, reflect.Map, reflect.String:
		if got.Len() == 0 {
			return nil
		}
	}
	if path == ".Debit.Drawn" && withoutTerms(got.Interface(), want.Interface()) {
		return nil
	}
	if got.IsZero() || reflect.DeepEqual(got.Interface(), want.Interface()) || got.Kind() == reflect.Int64 {
		return nil // a number may follow from others that are missing
	}
	return []string{path}
}

// withoutTerms says whether two lists of draws differ in terms alone: of a debit they stand
// behind the rest, and the first program wrote none.
func withoutTerms(got, want any) bool {
	return cmp.Equal(got, want, cmpopts.IgnoreFields(events.Draw{}, "ExpiresAt", "Priority"))
}

// TestNestedLength: a payload's length is two bytes in place up to 16,383, and moved
// above.
func TestNestedLength(t *testing.T) {
	frame := len(payload(&events.Endpoint{})) // of a description without a letter
	for _, want := range []int{frame, 127, 128, 129, 255, 256, 16_383, 16_384, 16_385, 70_000} {
		t.Run(fmt.Sprint(want), func(t *testing.T) {
			n := want - frame
			for len(payload(endpointWith(n))) > want {
				n-- // the description's own length takes more bytes
			}
			if got := len(payload(endpointWith(n))); got != want {
				t.Fatalf("the payload has %d bytes, want %d", got, want)
			}
			event := events.Event{Type: "endpoint.paused", Account: "acme", Data: endpointWith(n)}
			w := events.NewWriter([]byte("before"))
			event.Code(w)
			after := "after"
			w.String(&after)
			r := events.NewReader(w.Bytes()[len("before"):])
			var got events.Event
			got.Code(r)
			after = ""
			r.String(&after)
			if r.Err() != nil || after != "after" || got.Data.(*events.Endpoint).Description != strings.Repeat("x", n) {
				t.Errorf("read back: %v, %d letters, then %q", r.Err(), len(got.Data.(*events.Endpoint).Description), after)
			}
		})
	}
}

func endpointWith(letters int) *events.Endpoint {
	return &events.Endpoint{Description: strings.Repeat("x", letters)}
}

func payload(d events.Data) []byte {
	w := events.NewWriter(nil)
	d.Code(w)
	return w.Bytes()
}

// TestCoderRefuses: damaged lengths and unknown names are errors, never a panic, and an
// error stays.
func TestCoderRefuses(t *testing.T) {
	event := sampleEvent(t, events.Lookup("credit.debited"))
	stored := store(t, &event)
	otherVersion := bytes.Clone(stored)
	otherVersion[1+len(event.Type)] = 9
	tests := map[string][]byte{
		"nothing":              {},
		"an unknown type":      append([]byte{5}, "a.bcd\x01"...),
		"an unknown version":   otherVersion,
		"an endless number":    bytes.Repeat([]byte{0xff}, 11),
		"a length beyond all":  {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 'x'},
		"a length beyond ints": {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 'x'},
	}
	for name, b := range tests {
		t.Run(name, func(t *testing.T) {
			var got events.Event
			r := events.NewReader(b)
			got.Code(r)
			first := r.Err()
			if first == nil {
				t.Fatalf("read as %+v", got)
			}
			var s string
			var n uint64
			r.String(&s)
			r.Uint(&n)
			if s != "" || n != 0 || r.Err() != first {
				t.Errorf("read on behind the error: %q %d %v", s, n, r.Err())
			}
		})
	}
}

// TestCoderNeverPanics reads anything.
func TestCoderNeverPanics(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		event := drawEvent(t)
		b := store(t, &event)
		for range rapid.IntRange(1, 8).Draw(t, "changes") {
			b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "to")
		}
		var got events.Event
		got.Code(events.NewReader(b))
	})
}

// TestLenRefusesWhatCannotBe: a count is never trusted with memory.
func TestLenRefusesWhatCannotBe(t *testing.T) {
	count := uint64(1 << 40)
	w := events.NewWriter(nil)
	w.Uint(&count)
	r := events.NewReader(append(w.Bytes(), "three"...))
	if n := r.Len(0); n != 0 || !errors.Is(r.Err(), events.ErrShort) {
		t.Errorf("a count of 2^40 in 5 bytes: %d, %v", n, r.Err())
	}
}

// What is read again soon needs no memory of its own, and what is usual needs none at all.
func TestReadingSharesStrings(t *testing.T) {
	w := events.NewWriter(nil)
	for _, s := range []string{"acme", "grant_1", "acme", "key_1", "acme", events.Standard} {
		w.String(&s)
	}
	var read [6]string
	allocations := testing.AllocsPerRun(100, func() {
		r := events.NewReader(w.Bytes())
		for i := range 5 {
			r.String(&read[i])
		}
		r.Word(&read[5])
	})
	if want := [6]string{"acme", "grant_1", "acme", "key_1", "acme", events.Standard}; read != want {
		t.Errorf("read %q, want %q", read, want)
	}
	if allocations != 3 {
		t.Errorf("%v allocations, want one for each of 3 strings", allocations)
	}
}
