package server

import (
	"io"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/events/store/proof"
)

// CheckExport reads an export to its end and checks all of it; the log must also have the
// signed checkpoint that stands in it, and known unless that is nil. Who signed the former
// is not verified. It calls each for every commit, with the sequence of the last there will
// be.
func CheckExport(in io.Reader, known *proof.Checkpoint, each func(c *store.Commit, last uint64) error) (*Exported, error) {
	export, err := store.OpenExport(in)
	if err != nil {
		return nil, err
	}
	found := &Exported{Header: export.Header}
	var signed claims
	if known != nil {
		signed.claim("the checkpoint that was given", known)
	}
	err = export.Each(func(beside store.ExportBeside) error {
		found.Signed = string(beside.Signed)
		return signed.ofExport(export.Header.Ledger, beside.Signed)
	}, func(c *store.Commit, _ []byte) error {
		if err := signed.add(c); err != nil {
			return err
		}
		return each(c, export.Header.End)
	})
	if err == nil {
		err = signed.end(export.End())
	}
	if err != nil {
		return nil, err
	}
	found.End = export.End()
	found.Bytes, found.Sum = export.Sum()
	return found, nil
}
