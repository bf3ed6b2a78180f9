package server

import (
	"context"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger/access"
	"github.com/keyledger/keyledger/ledger/writer"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/webhooks"
)

// Status is what ledger.status answers: what an operator wants to see first.
type Status struct {
	Version   string `json:"version"`
	Partition uint32 `json:"partition"`
	Position  string `json:"position"` // acknowledged end of the log
	Epoch     uint64 `json:"epoch"`
	Events    uint64 `json:"events"` // in the log
	HeadHash  string `json:"head_hash"`
	// Sync says when a command is on the disk: "always" before its answer, or "lazy".
	Sync string `json:"sync"`

	Writer      writer.Stats                 `json:"writer"`
	Projections []projections.Status         `json:"projections"`
	Checkpoint  *projections.CheckpointStats `json:"views_checkpoint,omitempty"` // the newest one of the views
	Checkpoints projections.CheckpointStatus `json:"checkpoints"`
	Webhooks    webhooks.Stats               `json:"webhooks"`
	Access      access.Stats                 `json:"access"`
}

func (s *Server) status(_ context.Context, account string, body []byte) (any, events.Position, *events.Error) {
	if account != "_" {
		return nil, events.Position{}, events.Errorf(events.InvalidArgument, "the status is the ledger's own: ask keyledger.query._.ledger.status")
	}
	if err := events.DecodeStrict(body, &struct{}{}); err != nil {
		return nil, events.Position{}, err
	}
	end := s.tail.End()
	sync := "always"
	if s.cfg.UnsafeLazySync {
		sync = "lazy"
	}
	return &Status{
		Version: Version, Partition: partition, Position: end.Position().String(), Epoch: end.Epoch,
		Events: end.Ordinal, HeadHash: end.Hash.String(), Sync: sync, Writer: s.writer.Stats(),
		Projections: s.followed(),
		Checkpoint:  s.parts.views.Checkpoint(),
		Checkpoints: s.parts.checkpoints.Status(), Webhooks: s.parts.hooks.Stats(), Access: s.parts.access.Stats(),
	}, end.Position(), nil
}

// followed is how far all is that is derived from the log.
func (s *Server) followed() []projections.Status {
	return append(s.parts.views.Status(), s.others()...)
}

// others are those that no Runner keeps.
func (s *Server) others() []projections.Status {
	return []projections.Status{s.parts.feed.Status(), s.parts.kv.Status(), s.archiveStatus()}
}
