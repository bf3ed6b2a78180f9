package webhooks

import "slices"

// anchorsMax bounds how many places of its past the fold keeps of an endpoint, for replays to
// set out from: one reads about a sixth of the endpoint's past before its range at most. At 40 bytes
// each, an endpoint with all of them is still below 2 KiB.
const anchorsMax = 12

// anchorStride is how many events of the log lie between two anchors at first. It doubles
// whenever there are too many. It is a variable for tests alone.
var anchorStride = uint64(1 << 14)

// anchor keeps a place before an event of the endpoint's account, if it is time for one.
func (s *subscriber) anchor(at *sight) {
	if at.feed < s.anchors[len(s.anchors)-1].feed+s.stride {
		return
	}
	s.anchors = append(s.anchors, place{entry{feed: at.feed, commit: at.commit, number: s.owed + 1}, s.terms})
	if len(s.anchors) <= anchorsMax {
		return
	}
	s.stride *= 2
	kept := make([]place, 0, anchorsMax+1) // so that it never grows
	for _, a := range s.anchors {
		if len(kept) == 0 || a.feed >= kept[len(kept)-1].feed+s.stride {
			kept = append(kept, a)
		}
	}
	s.anchors = kept
}

// before returns the newest anchor that is not behind a feed sequence, nil if there is none.
func (s *subscriber) before(feed uint64) *place {
	for i, a := range slices.Backward(s.anchors) {
		if a.feed <= feed {
			return &s.anchors[i]
		}
	}
	return nil
}
