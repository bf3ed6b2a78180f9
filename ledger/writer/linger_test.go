package writer

import "testing"

func TestLinger(t *testing.T) {
	l := newLinger()
	if l.holds(1) {
		t.Error("an idle writer lingers")
	}
	l.sent(busyGroup - 1)
	if l.holds(1) {
		t.Error("a writer that is not busy lingers")
	}
	l.sent(busyGroup)
	if l.holds(0) || l.holds(busyGroup) {
		t.Error("an empty group, or one as large as the last, waits")
	}
	if !l.holds(1) || !l.holds(busyGroup-1) {
		t.Error("a smaller group of a busy writer does not wait")
	}
	<-l.timer.C
	l.elapsed()
	if l.holds(busyGroup - 1) {
		t.Error("a group waits longer than the timer")
	}
	l.sent(2)
	if l.holds(1) {
		t.Error("a writer that is not busy any more lingers")
	}
}
