package access

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// noon is the beginning of a minute.
var noon = events.At(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))

// keyID makes the id of a key.
func keyID(n int) string {
	var id ulid.ULID
	id[14], id[13], id[12] = byte(n), byte(n>>8), byte(n>>16)
	return keyIDPrefix + id.String()
}

func refused(account string, key int, at events.Time) *Request {
	return &Request{Account: account, Environment: events.Live, Key: keyID(key), Code: events.IPNotAllowed, Time: at, IP: "192.0.2.1", Product: "payments", Access: events.Write}
}

// recordsOf takes all cells out.
func recordsOf(c *cells) []Record {
	c.finish(math.MaxInt64)
	return c.copies(c.next(math.MaxInt))
}

// A flood of one key is one record, with the newest request in it.
func TestAFloodIsOneRecord(t *testing.T) {
	const flood = 1_000_000
	c := newCells()
	for i := range flood {
		r := refused("acme", 1, noon+events.Time(i%minuteMS))
		r.IP = "192.0.2." + strconv.Itoa(i%200)
		c.observe(r)
	}
	last := refused("acme", 1, noon+minuteMS-1)
	last.IP, last.Product, last.Access = "198.51.100.7", "search", events.Read
	c.observe(last)
	records := recordsOf(c)
	if len(records) != 1 {
		t.Fatalf("%d records, want 1", len(records))
	}
	got := records[0]
	got.ID = ulid.ULID{}
	want := Record{
		Version: 1, Account: "acme", Environment: events.Live, Key: keyID(1), Code: events.IPNotAllowed, Outcome: Refused, Minute: noon,
		Count: flood + 1, LastAt: noon + minuteMS - 1, IP: "198.51.100.7", Product: "search", Access: events.Read,
		Products: []ProductCount{{"payments", flood}, {"search", 1}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("record %+v, want %+v", got, want)
	}
}

// Keys, codes and minutes have cells of their own; unknown secrets have one for all.
func TestCells(t *testing.T) {
	c := newCells()
	for _, minute := range []events.Time{noon, noon + minuteMS} {
		for key := range 3 {
			c.observe(refused("acme", key, minute))
			free := refused("acme", key, minute)
			free.Code = events.OK
			c.observe(free)
			c.observe(&Request{Code: events.KeyNotFound, Time: minute, IP: "192.0.2.9"})
		}
	}
	count := map[string]int64{}
	for _, r := range recordsOf(c) {
		count[fmt.Sprintf("%s %s %s %s %s", r.Account, r.Key, r.Code, r.Outcome, r.Minute)] += r.Count
	}
	if len(count) != 2*(3+3+1) {
		t.Errorf("%d cells: %v", len(count), count)
	}
	for _, minute := range []events.Time{noon, noon + minuteMS} {
		for name, want := range map[string]int64{
			"acme " + keyID(2) + " ip_not_allowed refused ": 1,
			"acme " + keyID(2) + " ok free ":                1,
			"_  key_not_found refused ":                     3,
		} {
			if got := count[name+minute.String()]; got != want {
				t.Errorf("%s%s: %d, want %d", name, minute, got, want)
			}
		}
	}
}

// The last cell that fits is a key's own; one more is counted for its account, then for
// nobody, then it is dropped. Cells that are stored make room again.
func TestCellsAtTheirLimits(t *testing.T) {
	c := newCells()
	c.limits[ofAccount], c.limits[ofNobody] = 2, 1
	for key := range cellsMax {
		c.observe(refused("acme", key, noon))
	}
	if c.held != [kinds]int{cellsMax, 0, 0} || c.folded != 0 {
		t.Fatalf("held %v, folded %d", c.held, c.folded)
	}
	c.observe(refused("acme", 0, noon)) // known
	for i, account := range []string{"acme", "acme", "beta", "gamma", "gamma"} {
		c.observe(refused(account, cellsMax+i, noon))
	}
	c.observe(&Request{Code: events.KeyNotFound, Time: noon}) // there is one cell of nobody's, of another code
	if c.held != [kinds]int{cellsMax, 2, 1} || c.folded != 5 || c.dropped != 1 {
		t.Fatalf("held %v, folded %d, dropped %d", c.held, c.folded, c.dropped)
	}
	records := recordsOf(c)
	if records[0].Count != 2 {
		t.Errorf("the first key has %d, want 2", records[0].Count)
	}
	for i, want := range []struct {
		account string
		count   int64
	}{{"acme", 2}, {"beta", 1}, {nobody, 2}} {
		got := records[cellsMax+i]
		if got.Account != want.account || got.Key != "" || (got.Environment == "") != (want.account == nobody) || got.Count != want.count || got.Code != events.IPNotAllowed {
			t.Errorf("folded %+v, want %+v", got, want)
		}
	}
	c.forget(1, false)
	c.observe(refused("gamma", 2*cellsMax, noon+minuteMS))
	c.observe(refused("gamma", 2*cellsMax+1, noon+minuteMS))
	if c.held != [kinds]int{cellsMax, 2, 1} || c.folded != 5 || c.dropped != 2 {
		t.Errorf("after one was stored: held %v, folded %d, dropped %d", c.held, c.folded, c.dropped)
	}
}

// Whatever comes, and whatever becomes of it, every request is in a record or is counted
// as dropped, and memory keeps to its limits.
func TestNothingIsLostSilently(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("KEYLEDGER_TEST_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("KEYLEDGER_TEST_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	c := newCells()
	c.limits = [kinds]int{50, 5, 3}
	var sent, stored, lost int64
	at := noon
	for range 200_000 {
		switch random.IntN(1000) {
		case 0:
			at += minuteMS
		case 1:
			c.finish(at)
		case 2:
			batch := c.next(random.IntN(40))
			dropped := random.IntN(10) == 0
			for _, r := range c.copies(batch) {
				if dropped {
					lost += r.Count
				} else {
					stored += r.Count
				}
			}
			c.forget(len(batch), dropped)
		default:
			r := refused("account-"+strconv.Itoa(random.IntN(20)), random.IntN(100), at+events.Time(random.IntN(minuteMS)))
			r.Code = []events.Code{events.OK, events.RateLimited, events.KeyRevoked}[random.IntN(3)]
			if random.IntN(10) == 0 {
				r = &Request{Code: events.KeyNotFound, Time: at}
			}
			c.observe(r)
			sent++
		}
		for kind, n := range c.held {
			if n < 0 || n > c.limits[kind] {
				t.Fatalf("held %v, limits %v", c.held, c.limits)
			}
		}
	}
	for _, r := range recordsOf(c) {
		stored += r.Count
	}
	if stored+c.dropped != sent || c.dropped < lost || c.folded == 0 || c.dropped == lost {
		t.Errorf("%d sent, %d in records, %d dropped (%d of them in records that were lost), %d folded", sent, stored, c.dropped, lost, c.folded)
	}
	c.forget(len(c.next(math.MaxInt)), false)
	if c.held != [kinds]int{} {
		t.Errorf("held %v of nothing", c.held)
	}
}

// A record tells so many products apart, whatever names there are; the others are counted
// without theirs, and one product alone takes no room.
func TestProductsOfARecord(t *testing.T) {
	c := newCells()
	want := map[string]int64{}
	for i := range 3 * productsMax {
		r := refused("acme", 1, noon)
		r.Product = []string{"", "search", "made-up-" + strconv.Itoa(i)}[i%3]
		c.observe(r)
		if name := r.Product; len(want) < productsMax || want[name] > 0 {
			want[name]++
		} else {
			want[OtherProducts]++
		}
		c.observe(refused("acme", 2, noon))
	}
	want[OtherProducts]++
	c.observe(&Request{Account: "acme", Environment: events.Live, Key: keyID(1), Code: events.IPNotAllowed, Time: noon, Product: "last"})
	records := recordsOf(c)
	got := map[string]int64{}
	records[0].EachProduct(func(product string, count int64) { got[product] += count })
	if len(want) != productsMax+1 || !maps.Equal(got, want) || len(records[0].Products) != productsMax {
		t.Errorf("products %v, want %v", got, want)
	}
	records[1].EachProduct(func(product string, count int64) {
		if product != "payments" || count != 3*productsMax || records[1].Products != nil {
			t.Errorf("%d of %s, %v", count, product, records[1].Products)
		}
	})
}

// What is folded keeps its environment.
func TestFoldedByEnvironment(t *testing.T) {
	c := newCells()
	c.limits[ofKey] = 0
	for i, environment := range []string{events.Live, events.Test, events.Live} {
		r := refused("acme", i, noon)
		r.Environment = environment
		c.observe(r)
	}
	records := recordsOf(c)
	if len(records) != 2 || records[0].Environment != events.Live || records[0].Count != 2 || records[1].Environment != events.Test || records[1].Count != 1 {
		t.Errorf("folded %+v", records)
	}
}

// Each free use is told once until there is a newer one; refusals are no use.
func TestFreeUsesAreTold(t *testing.T) {
	c := newCells()
	use := func(key int, code events.Code, at events.Time) {
		r := refused("acme", key, at)
		r.Code = code
		c.observe(r)
	}
	use(1, events.OK, noon)
	use(1, events.OK, noon+1)
	use(2, events.RateLimited, noon+2)
	use(3, events.OK, noon+3)
	if got := c.uses(1); len(got) != 1 || got[0] != (Use{"acme", keyID(1), noon + 1, "192.0.2.1", "payments"}) {
		t.Errorf("told %+v", got)
	}
	use(1, events.OK, noon+4)
	c.finish(math.MaxInt64)
	c.forget(2, false)
	got := c.uses(usesBatch)
	if len(got) != 2 || got[0].Key != keyID(3) || got[1] != (Use{"acme", keyID(1), noon + 4, "192.0.2.1", "payments"}) {
		t.Errorf("told %+v", got)
	}
	if got := c.uses(usesBatch); len(got) != 0 {
		t.Errorf("told again %+v", got)
	}
}

// BenchmarkObserve is what counting one request costs who gives out answers.
func BenchmarkObserve(b *testing.B) {
	for _, keys := range []int{1, 1000, cellsMax, 2 * cellsMax} {
		b.Run(strconv.Itoa(keys)+" keys", func(b *testing.B) {
			c := newCells()
			requests := make([]*Request, keys)
			for i := range requests {
				requests[i] = refused("acme", i, noon)
				c.observe(requests[i])
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				c.observe(requests[i])
				if i++; i == keys {
					i = 0
				}
			}
		})
	}
}
