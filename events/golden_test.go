package events_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"
	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/events"
)

// update writes golden files that do not exist yet. It never changes one: what a
// released program wrote stays readable for ever.
var update = flag.Bool("update", false, "write the golden files that are missing")

const goldenDir = "testdata/golden"

// Ids and times of the samples.
const (
	sampleKey      = "key_01JD9Z3W8X4T6V2QK7M5N0PRSB"
	sampleGrant    = "grant_01JD9Z3W8X4T6V2QK7M5N0PRSC"
	sampleDebit    = "debit_01JD9Z3W8X4T6V2QK7M5N0PRSD"
	sampleHold     = "hold_01JD9Z3W8X4T6V2QK7M5N0PRSG"
	sampleEndpoint = "endpoint_01JD9Z3W8X4T6V2QK7M5N0PRSE"

	sampleTime  = events.Time(1_732_233_600_123) // 2024-11-22T00:00:00.123Z
	sampleLater = events.Time(1_763_769_600_000) // 2025-11-22T00:00:00Z
)

// samples has one payload with nothing left out for each noun, or type where a noun has
// several payloads, with the environment and subject of its event. A new payload is one
// line here.
var samples = map[string]struct {
	environment, subject string
	data                 func() events.Data
}{
	"account":            {"", "", func() events.Data { return account() }},
	"key":                {events.Live, sampleKey, func() events.Data { return key() }},
	"credit.granted":     {events.Test, "", func() events.Data { return granted() }},
	"credit.debited":     {events.Test, sampleKey, func() events.Data { return debited() }},
	"credit.refunded":    {events.Test, sampleKey, func() events.Data { return refunded() }},
	"credit.adjusted":    {events.Test, "", func() events.Data { return adjusted() }},
	"credit.transferred": {events.Test, "", func() events.Data { return transferred() }},
	"credit.expired":     {events.Test, "", func() events.Data { return expired() }},
	"credit.replenished": {events.Test, "", func() events.Data { return replenished() }},
	"credit.exchanged":   {events.Test, "", func() events.Data { return exchanged() }},
	"hold":               {events.Test, sampleHold, func() events.Data { return held() }},
	"balance":            {events.Test, "", func() events.Data { return alert() }},
	"endpoint.replayed":  {events.Live, sampleEndpoint, func() events.Data { return replay() }},
	"endpoint":           {events.Live, sampleEndpoint, func() events.Data { return endpoint() }},
}

// neverStored are the fields that stay zero in a stored payload.
var neverStored = map[string]bool{"Key.LastUsedAt": true, "Key.LastUsedIP": true, "Key.LastUsedProduct": true}

func account() *events.Account {
	price := int64(100)
	return &events.Account{
		ID: "acme", Name: "Acme Bücher & Söhne", Status: events.Suspended, Reason: "unpaid invoice",
		Environments: events.Environments{
			Test: events.Environment{Enabled: true, Products: events.Products{"payments", "refunds"}},
			Live: events.Environment{Enabled: true, Products: events.Products{"payments"}},
		},
		Plan: &events.Plan{
			Name:    "starter",
			Price:   events.Price{Asset: "credits", Default: &price, Per: map[string]int64{"payments:read": 50, "refunds:write": 25}},
			Rate:    &events.Rate{PerSecond: 10, Burst: 20},
			MaxKeys: 10,

			Allowance: &events.Allowance{Asset: "credits", Amount: 5_000, Every: events.Month, TimeZone: "Asia/Kathmandu"},
			Overdraft: map[string]int64{"credits": 300, "usd": 50},
			Par:       [][]string{{"usd", "usdc"}, {"usd", "eur"}},
			Assets:    map[string]events.Asset{"usd": {Scale: 2, Class: events.Fiat}, "usdc": {Scale: 6, Class: events.Crypto}},
		},
		Metadata:   events.Object(`{"crm":{"id":4711}}`),
		CreatedAt:  sampleTime,
		Thresholds: []events.Threshold{{Environment: events.Live, Asset: "usd", Amount: 1_000}, {Asset: "credits", Percent: 20}},
	}
}

func key() *events.Key {
	k := &events.Key{
		ID: sampleKey, Account: "acme", Environment: events.Live, Name: "backend", Kind: events.Restricted,
		Status: events.Disabled, Reason: "rotation", Permissions: []string{"payments:read", "refunds:*"},
		ReadOnly: true, IPAllowlist: []string{"203.0.113.0/24", "2001:db8::/32"}, ExpiresAt: sampleLater,
		AssetClass: "fiat", Prefix: "kl_live_01JD9Z3W8X4T6V2QK7M5N0PRSB…wxyz", CreatedAt: sampleTime,
		Metadata: events.Object(`{"team":"billing"}`), PublicKey: []byte{7, 8, 9}, Imported: true, RotatedAt: sampleTime + 1,
		OldSecretUntil: sampleTime + 2, ExpirySetAt: sampleTime + 3, Notice: 86_400_000,
	}
	for i := range k.Hash {
		k.Hash[i], k.OldHash[i] = byte(i+1), byte(101+i)
	}
	return k
}

func smallBalance() events.Balance {
	return events.Balance{Environment: events.Test, Asset: "credits", Posted: 1_000, Held: 250, Available: 750}
}

func granted() *events.Granted {
	return &events.Granted{
		Grant: events.Grant{
			ID: sampleGrant, Environment: events.Test, Asset: "credits", Amount: 1_000, Priority: -3,
			Category: events.Promotional, Reference: "invoice 2024-117", CreatedAt: sampleTime,
			ExpiresAt: sampleLater, OverdraftPaid: 20,
		},
		Balance: smallBalance(),
	}
}

func debited() *events.Debited {
	return &events.Debited{
		Debit: events.Debit{
			ID: sampleDebit, Environment: events.Test, Asset: "credits", Amount: 100,
			Drawn: sampleDraws(),
			Key:   sampleKey, Product: "payments", Access: events.Read, Units: 2, IP: "203.0.113.7",
			SecretAge: events.CurrentSecret, Reference: "order 42", CreatedAt: sampleTime,
			Signature: []byte{15: 1}, SignedAt: sampleTime - 1,
		},
		Balance: smallBalance(),
	}
}

func sampleDraws() []events.Draw {
	return []events.Draw{
		{Grant: events.AllowanceGrant, Amount: 30, ExpiresAt: sampleLater},
		{Grant: sampleGrant, Amount: 50, Priority: -3, ExpiresAt: sampleLater},
		{Grant: "grant_01JD9Z3W8X4T6V2QK7M5N0PRSF", Amount: 15},
		{Grant: events.OverdraftGrant, Amount: 5},
	}
}

func refunded() *events.Refunded {
	return &events.Refunded{
		Refund: events.Refund{
			ID: "refund_01JD9Z3W8X4T6V2QK7M5N0PRSH", Debit: sampleDebit, Environment: events.Test, Asset: "credits", Amount: 100,
			Refunded: 150, Returned: sampleDraws(), Key: sampleKey, Product: "payments", Reference: "order 42 came back", CreatedAt: sampleTime,
		},
		Balance: smallBalance(),
	}
}

func adjusted() *events.Adjusted {
	return &events.Adjusted{
		Adjustment: events.Adjustment{
			ID: "adjustment_01JD9Z3W8X4T6V2QK7M5N0PRSJ", Environment: events.Test, Asset: "credits", Amount: -100,
			Drawn: sampleDraws(), Added: sampleDraws(), Reason: "double import", CreatedAt: sampleTime,
		},
		Balance: smallBalance(),
	}
}

func transferred() *events.Transferred {
	return &events.Transferred{
		Transfer: events.Transfer{
			ID: "transfer_01JD9Z3W8X4T6V2QK7M5N0PRSK", From: "acme", To: "globex", Environment: events.Test, Asset: "credits",
			Amount: 100, Drawn: sampleDraws(), Added: sampleDraws(), Reference: "merger", CreatedAt: sampleTime,
		},
		Balance: smallBalance(),
	}
}

func expired() *events.Expired {
	return &events.Expired{
		Expiry:  events.Expiry{Grant: sampleGrant, Environment: events.Test, Asset: "credits", Amount: 10, ExpiredAt: sampleLater},
		Balance: smallBalance(),
	}
}

func replenished() *events.Replenished {
	return &events.Replenished{
		Replenishment: events.Replenishment{
			Environment: events.Test, Asset: "credits", Amount: 5_000, Spent: 20, Remaining: 4_980, Before: 17, OverdraftPaid: 20,
			By: events.ByPeriod, ResetsAt: sampleLater, CreatedAt: sampleTime,
		},
		Balance: smallBalance(),
	}
}

func exchanged() *events.Exchanged {
	to := smallBalance()
	to.Asset = "usdc"
	return &events.Exchanged{
		ID: "exchange_01JD9Z3W8X4T6V2QK7M5N0PRSM", Environment: events.Test,
		From:      events.Leg{Asset: "credits", Amount: 100, Drawn: sampleDraws(), Added: sampleDraws(), Balance: smallBalance()},
		To:        events.Leg{Asset: "usdc", Amount: 1_000_000, Drawn: sampleDraws(), Added: sampleDraws(), Balance: to},
		CreatedAt: sampleTime,
	}
}

func held() *events.Held {
	return &events.Held{
		Hold: events.Hold{
			ID: sampleHold, Environment: events.Test, Asset: "credits", Amount: 300, Captured: 50, Held: 250, Status: events.Open,
			Key: sampleKey, Reference: "session 7", ExpiresAt: sampleLater, CreatedAt: sampleTime, Reserved: sampleDraws(),
		},
		Capture:  &events.Capture{Debit: sampleDebit, Amount: 50, Drawn: sampleDraws(), CreatedAt: sampleTime},
		Returned: sampleDraws(), Lapsed: sampleDraws(), Balance: smallBalance(),
	}
}

func alert() *events.Alert {
	return &events.Alert{
		Environment: events.Test, Asset: "credits", Threshold: &events.Threshold{Environment: events.Test, Asset: "credits", Percent: 20, Amount: 1},
		Below: 1_000, Balance: smallBalance(),
	}
}

func endpoint() *events.Endpoint {
	return &events.Endpoint{
		ID: sampleEndpoint, Account: "acme", Environment: events.Live, URL: "https://hooks.example/keyledger",
		Events: []string{"credit.*", "key.revoked"}, Description: "bookkeeping", Headers: []string{"x-team", "x-token"},
		Status: events.Paused, Reason: "maintenance", Signing: "v1", CreatedAt: sampleTime,
		SealedSecret: []byte{1, 2, 3}, SealedQuery: []byte{4, 5}, SealedHeaders: [][]byte{{6}, {7, 8}},
		Keys: []string{sampleKey}, Filters: []byte(`[{"prefix":{"type":"dev.keyledger.credit."}}]`), Ordering: events.OrderingKey,
		RatePerMinute: 600, AllowedRate: 300, Timeout: "5s", Consent: events.ConsentConfirmed, PublicKey: "whpk_AQID",
		Former: []events.FormerSecret{
			{Until: sampleLater, Signing: events.SigningV1a, PublicKey: "whpk_BAUG", Sealed: []byte{9, 10}},
			{Until: sampleTime + 1, Signing: events.SigningV1, Sealed: []byte{11}},
		},
		SkipTo: "0:41.3", FailingSince: sampleTime - 1, FailingPercent: 70,
	}
}

func replay() *events.Replay {
	return &events.Replay{
		ID: "replay_01JD9Z3W8X4T6V2QK7M5N0PRSI", Endpoint: sampleEndpoint, Account: "acme", Environment: events.Live,
		From: "0:7.1", To: "0:41.3", FromTime: sampleTime - 2, ToTime: sampleTime - 1, Events: []string{"credit.*"}, CreatedAt: sampleTime,
	}
}

// sampleEvent is the sample of a line of the catalog, the same in every run.
func sampleEvent(t testing.TB, kind *events.Kind) events.Event {
	t.Helper()
	noun, _, _ := strings.Cut(kind.Name, ".")
	s, ok := samples[kind.Name]
	if !ok {
		s, ok = samples[noun]
	}
	if !ok {
		t.Fatalf("%s has no sample: add one to the table in golden_test.go", kind.Name)
	}
	return events.Event{Type: kind.Name, Account: "acme", Environment: s.environment, Subject: s.subject, Data: s.data()}
}

// sampleCloudEvent is the same event as the outside sees it.
func sampleCloudEvent(t testing.TB, kind *events.Kind) *events.CloudEvent {
	t.Helper()
	return &events.CloudEvent{
		Event:     sampleEvent(t, kind),
		ID:        events.EventID(sampleTime, [16]byte{15: 1}, 2),
		Time:      sampleTime,
		Position:  events.Position{Partition: 0, Sequence: 42, Index: 2},
		CommandID: ulid.MustParseStrict("01JD9Z3W8X4T6V2QK7M5N0PRSA"),
	}
}

// TestGolden holds the stored and the public form of every type still: once written by
// a released program, they are read for ever.
func TestGolden(t *testing.T) {
	for i := range events.Catalog {
		kind := &events.Catalog[i]
		t.Run(kind.Name, func(t *testing.T) {
			base := fmt.Sprintf("%s/%s.v%d", goldenDir, kind.Name, kind.Version)
			if kind.Added > 0 {
				base += fmt.Sprintf("+%d", kind.Added) // the files before it stay, and stay readable
			}
			event := sampleEvent(t, kind)
			stored := golden(t, base+".hex", toHex(store(t, &event)))
			if got := load(t, fromHex(t, stored)); !cmp.Equal(event, got) {
				t.Errorf("%s.hex decodes to something else:\n%s", base, cmp.Diff(event, got))
			}
			public, err := sampleCloudEvent(t, kind).Structured()
			if err != nil {
				t.Fatal(err)
			}
			checkPublic(t, kind, &event, golden(t, base+".json", append(public, '\n')))
		})
	}
}

// golden compares got with a golden file and returns the file.
func golden(t *testing.T, path string, got []byte) []byte {
	t.Helper()
	want, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && *update {
		if err := os.MkdirAll(goldenDir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return got
	}
	if err != nil {
		t.Fatalf("%v (write it with: go test ./events -run TestGolden -update)", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the type is written as now. Golden files are never changed: raise Added in the catalog for members that were added at the end, else the version, and keep reading the old one.\nwant %s\n got %s",
			path, want, got)
	}
	return want
}

// checkPublic decodes the data member of a public form back.
func checkPublic(t *testing.T, kind *events.Kind, event *events.Event, public []byte) {
	t.Helper()
	var outer struct {
		SpecVersion     string        `json:"specversion"`
		ID              string        `json:"id"`
		Source          string        `json:"source"`
		Type            string        `json:"type"`
		Subject         string        `json:"subject"`
		Time            events.Time   `json:"time"`
		Position        string        `json:"position"`
		CommandID       string        `json:"commandid"`
		Environment     string        `json:"environment"`
		PartitionKey    string        `json:"partitionkey"`
		DataContentType string        `json:"datacontenttype"`
		Data            events.Object `json:"data"`
	}
	if err := events.DecodeStrict(public, &outer); err != nil {
		t.Fatal(err)
	}
	if outer.Type != kind.CloudEventType() || outer.Subject != event.Subject || outer.Environment != event.Environment || outer.Time != sampleTime {
		t.Errorf("attributes do not fit the sample: %s", public)
	}
	data := kind.New()
	if err := events.DecodeStrict(outer.Data, data); err != nil {
		t.Fatal(err)
	}
	if want := publicPart(event.Data); !cmp.Equal(want, data) {
		t.Errorf("data decodes to something else:\n%s", cmp.Diff(want, data))
	}
}

// publicPart returns data without the members that must not leave the log.
func publicPart(data events.Data) events.Data {
	from := reflect.ValueOf(data).Elem()
	to := reflect.New(from.Type())
	for i := range from.NumField() {
		if from.Type().Field(i).Tag.Get("json") != "-" {
			to.Elem().Field(i).Set(from.Field(i))
		}
	}
	if e, ok := to.Interface().(*events.Endpoint); ok {
		e.Former = slices.Clone(e.Former)
		for i := range e.Former {
			e.Former[i].Sealed = nil
		}
	}
	return to.Interface().(events.Data)
}

// TestGoldenFilesStay: a file without a line of the catalog means that a name was
// changed or a type was taken away, and a log that holds it could not be read any more.
func TestGoldenFilesStay(t *testing.T) {
	files, err := filepath.Glob(goldenDir + "/*")
	if err != nil || len(files) < 2*len(events.Catalog) {
		t.Errorf("%d golden files for %d types: want two for each (%v)", len(files), len(events.Catalog), err)
	}
	form := regexp.MustCompile(`^([a-z]+\.[a-z_]+)\.v([0-9]+)(\+[0-9]+)?\.(hex|json)$`)
	for _, file := range files {
		m := form.FindStringSubmatch(filepath.Base(file))
		if m == nil {
			t.Errorf("%s: a golden file is called <noun>.<verb>.v<version>.hex or .json, with +<added> behind the version where members were added", file)
			continue
		}
		kind := events.Lookup(m[1])
		version, err := strconv.ParseUint(m[2], 10, 64)
		if kind == nil || err != nil || version > kind.Version {
			t.Errorf("%s: the catalog has no such type and version; stored names are for ever", file)
			continue
		}
		if m[4] == "hex" {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			load(t, fromHex(t, content)) // older versions too
		}
	}
}

// TestSamplesLeaveNothingOut: a golden file that lacks a member would not hold it still.
func TestSamplesLeaveNothingOut(t *testing.T) {
	for i := range events.Catalog {
		data := reflect.ValueOf(sampleEvent(t, &events.Catalog[i]).Data).Elem()
		for _, field := range zeroFields(data, data.Type().Name()) {
			if !neverStored[field] {
				t.Errorf("the sample of %s leaves %s zero", events.Catalog[i].Name, field)
			}
		}
	}
}

// zeroFields names the fields in v that are zero.
func zeroFields(v reflect.Value, path string) []string {
	if v.IsZero() {
		return []string{path}
	}
	var zero []string
	switch v.Kind() {
	case reflect.Pointer:
		if v.Elem().Kind() == reflect.Struct {
			zero = zeroFields(v.Elem(), path)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			zero = append(zero, zeroFields(v.Field(i), path+"."+v.Type().Field(i).Name)...)
		}
	case reflect.Slice, reflect.Map:
		if v.Len() == 0 {
			zero = append(zero, path)
		}
	}
	return zero
}

// store returns the stored form of e.
func store(t rapid.TB, e *events.Event) []byte {
	t.Helper()
	w := events.NewWriter(nil)
	e.Code(w)
	if w.Err() != nil {
		t.Fatalf("store %s: %v", e.Type, w.Err())
	}
	return w.Bytes()
}

// load reads a stored event and nothing behind it.
func load(t rapid.TB, b []byte) events.Event {
	t.Helper()
	var e events.Event
	r := events.NewReader(b)
	e.Code(r)
	if r.Err() != nil || len(r.Bytes()) != 0 {
		t.Fatalf("load %s: %v, %d bytes left", e.Type, r.Err(), len(r.Bytes()))
	}
	return e
}

// toHex writes 32 bytes a line, so that a difference can be seen.
func toHex(b []byte) []byte {
	var out bytes.Buffer
	for len(b) > 0 {
		n := min(32, len(b))
		fmt.Fprintf(&out, "%x\n", b[:n])
		b = b[n:]
	}
	return out.Bytes()
}

func fromHex(t testing.TB, text []byte) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
