package events_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/events"
)

// What hidden members are set to, to be looked for.
const (
	hiddenText   = "0123456789hidden-hidden-hidden!!" // 32 bytes
	hiddenNumber = 1_234_567_890_123
)

// TestHiddenMembersStayInside: what is stored and is not for anybody, hashes of secrets and
// what is sealed, comes out in no public form: the feed has the headers of the binary one and the data, webhooks and
// audit replay have the structured one, queries and buckets the data.
func TestHiddenMembersStayInside(t *testing.T) {
	traces := []string{
		hiddenText, hex.EncodeToString([]byte(hiddenText)), strings.ToUpper(hex.EncodeToString([]byte(hiddenText))),
		base64.RawStdEncoding.EncodeToString([]byte(hiddenText)), base64.RawURLEncoding.EncodeToString([]byte(hiddenText)),
		strings.Trim(strings.ReplaceAll(fmt.Sprint([]byte(hiddenText)), " ", ","), "[]"),
		fmt.Sprint(hiddenNumber), events.Time(hiddenNumber).String(),
	}
	hidden := map[string]bool{}
	for i := range events.Catalog {
		e := sampleCloudEvent(t, &events.Catalog[i])
		hide(t, reflect.ValueOf(e.Data).Elem(), hidden)
		structured, err := e.Structured()
		if err != nil {
			t.Fatal(err)
		}
		data, err := events.Encode(e.Data)
		if err != nil {
			t.Fatal(err)
		}
		for form, text := range map[string]string{
			"structured": string(structured), "headers": string(e.AppendHeaders(nil)), "data": string(data),
		} {
			for _, trace := range traces {
				if strings.Contains(text, trace) {
					t.Errorf("%s, %s form, has %s: %s", e.Type, form, trace, text)
				}
			}
		}
	}
	for _, name := range []string{"Key.Hash", "Key.OldHash", "Key.Notice", "Key.ExpirySetAt",
		"Endpoint.SealedSecret", "Endpoint.SealedQuery", "Endpoint.SealedHeaders", "FormerSecret.Sealed"} {
		if !hidden[name] {
			t.Errorf("%s is not hidden", name)
		}
	}
}

// hide sets the members that JSON leaves out, and notes their names.
func hide(t *testing.T, v reflect.Value, names map[string]bool) {
	t.Helper()
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			hide(t, v.Elem(), names)
		}
	case reflect.Slice:
		for i := range v.Len() {
			hide(t, v.Index(i), names)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if field.Tag.Get("json") != "-" {
				hide(t, v.Field(i), names)
				continue
			}
			names[v.Type().Name()+"."+field.Name] = true
			switch p := v.Field(i).Addr().Interface().(type) {
			case *[32]byte:
				copy(p[:], hiddenText)
			case *[]byte:
				*p = []byte(hiddenText)
			case *[][]byte:
				*p = [][]byte{[]byte(hiddenText)}
			case *events.Time:
				*p = hiddenNumber
			case *int64:
				*p = hiddenNumber
			default:
				t.Fatalf("%s.%s: a type that this test cannot set", v.Type().Name(), field.Name)
			}
		}
	}
}
