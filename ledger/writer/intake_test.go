package writer

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/ledger"
)

// lanesOf returns n accounts that do not share a lane.
func lanesOf(q *intake, n int) []string {
	var names []string
	taken := map[int]bool{}
	for i := 0; len(names) < n; i++ {
		name := fmt.Sprint("account-", i)
		if at := q.laneOf(&Request{Account: name}); !taken[at] {
			taken[at] = true
			names = append(names, name)
		}
	}
	return names
}

func fill(q *intake, account string, most int) (n int) {
	for n < most && q.put(&Request{Account: account}) {
		n++
	}
	return n
}

// TestIntakeLeavesRoom: an account that floods gets half of the intake, a second one a
// third of the whole, and whoever sends little is still let in.
func TestIntakeLeavesRoom(t *testing.T) {
	const limit = 1200
	q := newIntake(limit)
	names := lanesOf(&q, 3)
	if n := fill(&q, names[0], limit); n != limit/2 {
		t.Errorf("one account got %d of %d places, want half", n, limit)
	}
	second := fill(&q, names[1], limit)
	if second != limit/4 {
		t.Errorf("the second account got %d places, want half of what was left", second)
	}
	if fill(&q, names[2], 100) != 100 {
		t.Error("an account that sends little was refused")
	}
	if fill(&q, names[0], 1) != 0 {
		t.Error("the account that floods got one more")
	}
	if q.len() != limit/2+limit/4+100 {
		t.Errorf("%d wait", q.len())
	}
	if taken := q.take(600, nil); len(taken) != 600 {
		t.Errorf("took %d", len(taken))
	}
	if fill(&q, names[0], 1) != 1 {
		t.Error("there is room again, and it was refused")
	}
}

// TestIntakeBytes: bodies are bounded too, at the edge.
func TestIntakeBytes(t *testing.T) {
	q := newIntake(1000)
	if !q.put(&Request{Account: "a", Bytes: maxWaitingBytes - 1}) || !q.put(&Request{Account: "b", Bytes: 1}) {
		t.Fatal("refused within the limit")
	}
	if q.put(&Request{Account: "c", Bytes: 1}) {
		t.Error("one byte more was let in")
	}
	q.take(1, nil)
	if !q.put(&Request{Account: "c", Bytes: 1}) {
		t.Error("refused although there is room again")
	}
}

// TestIntakeShares: while one account floods, every other account's request is in the
// next group.
func TestIntakeShares(t *testing.T) {
	q := newIntake(100_000)
	names := lanesOf(&q, 11)
	fill(&q, names[0], 40_000)
	for _, name := range names[1:] {
		fill(&q, name, 3)
	}
	seen := map[string]int{}
	for _, req := range q.take(1000, nil) {
		seen[req.Account]++
	}
	for _, name := range names[1:] {
		if seen[name] != 3 {
			t.Errorf("%s has %d of its 3 requests in the group", name, seen[name])
		}
	}
	if seen[names[0]] != 1000-30 {
		t.Errorf("the flood has %d places, want all that the others left", seen[names[0]])
	}
}

// TestIntakeIsAQueue compares with plain queues: nothing lost, nothing twice, each
// account in its order, and what was put back first. rapid prints the seed of a failure.
func TestIntakeIsAQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := newIntake(50)
		waiting := map[string][]*Request{}
		var front []*Request
		count := 0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			default:
				req := &Request{Account: rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "account"), Bytes: 1}
				if q.put(req) {
					waiting[req.Account] = append(waiting[req.Account], req)
					count++
				} else if count == 0 {
					t.Fatal("an empty intake refused")
				}
			case 3:
				most := rapid.IntRange(1, 20).Draw(t, "most")
				taken := q.take(most, nil)
				if len(taken) != min(most, count) {
					t.Fatalf("took %d of %d, wanted up to %d", len(taken), count, most)
				}
				for i, req := range taken {
					if i < min(most, len(front)) {
						if req != front[i] {
							t.Fatal("what was put back does not come first")
						}
						continue
					}
					if list := waiting[req.Account]; len(list) == 0 || list[0] != req {
						t.Fatalf("a request of %s is out of its order", req.Account)
					}
					waiting[req.Account] = waiting[req.Account][1:]
				}
				front = front[min(most, len(front)):]
				count -= len(taken)
				if back := rapid.IntRange(0, len(taken)).Draw(t, "back"); back > 0 {
					q.putBack(taken[len(taken)-back:])
					front = append(append([]*Request{}, taken[len(taken)-back:]...), front...)
					count += back
				}
			case 4:
				gone := map[*Request]bool{}
				for _, req := range q.remove(func(req *Request) bool { return req.Account == "b" }) {
					gone[req] = true
				}
				kept := front[:0:0]
				for _, req := range front {
					if !gone[req] {
						kept = append(kept, req)
					}
				}
				if n := len(front) - len(kept) + len(waiting["b"]); n != len(gone) {
					t.Fatalf("removed %d, want %d", len(gone), n)
				}
				front, waiting["b"] = kept, nil
				count -= len(gone)
			}
			if q.len() != count || q.bytes != count {
				t.Fatalf("%d wait with %d bytes, want %d", q.len(), q.bytes, count)
			}
		}
		if left := q.close(); len(left) != count || q.put(&Request{Account: "a"}) {
			t.Fatalf("closing gave %d back of %d, or lets more in", len(left), count)
		}
	})
}

func BenchmarkIntake(b *testing.B) {
	q := newIntake(65_536)
	requests := make([]*Request, 256)
	for i := range requests {
		requests[i] = &Request{Account: fmt.Sprint("account-", i)}
	}
	var batch []*Request
	b.ReportAllocs()
	for i := 0; i < b.N; i += len(requests) {
		for _, req := range requests {
			q.put(req)
		}
		batch = q.take(1000, batch)
	}
}

// TestIntakeLanes: what must be decided in order shares a lane, and secrets that nobody
// was given share none with an account.
func TestIntakeLanes(t *testing.T) {
	q := newIntake(10)
	junk := &ledger.Authorize{Secret: "kl_test_" + strings.Repeat("0", 79)}
	if err := junk.Validate(); err != nil {
		t.Fatal(err)
	}
	if at := q.laneOf(&Request{Authorize: junk}); at != intakeLanes {
		t.Errorf("a secret that was never given out has lane %d", at)
	}
	if q.laneOf(&Request{Lane: 7, Account: "a"}) != q.laneOf(&Request{Lane: 7, Authorize: junk}) {
		t.Error("requests of one lane have two")
	}
}
