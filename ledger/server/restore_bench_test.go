package server

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// madeExport is an export of commits with so many debits each.
func madeExport(b *testing.B, commits, each int) []byte {
	var file bytes.Buffer
	header := store.ExportHeader{Ledger: ulid.Make().String(), Partitions: partitions, SealKey: "0a0b0c0d", End: uint64(commits)}
	w, err := store.NewExportWriter(&file, header, store.ExportBeside{}, true)
	if err != nil {
		b.Fatal(err)
	}
	for chain := w.End(); chain.Sequence < uint64(commits); chain = w.End() {
		c := &store.Commit{Epoch: 1, Time: chain.Time + 1, PrevSequence: chain.Sequence, PrevHash: chain.Hash, Ordinal: chain.Ordinal}
		var encoded []byte
		for i := range each {
			id := ulid.ULID{15: byte(i), 14: byte(i >> 8), 10: byte(chain.Sequence), 9: byte(chain.Sequence >> 8), 8: byte(chain.Sequence >> 16)}
			entry := store.Entry{CommandID: id, Receipt: true, Command: "credit.debit", Account: "acme", Actor: "operator", Outcome: events.OK,
				Events: []events.Event{{Type: "credit.debited", Account: "acme", Environment: "test", Data: &events.Debited{
					Debit:   events.Debit{ID: "debit_" + id.String(), Amount: 1, Drawn: []events.Draw{{Grant: "allowance", Amount: 1}}, CreatedAt: c.Time},
					Balance: events.Balance{Environment: "test", Asset: "credits", Posted: int64(i)},
				}}}}
			c.Entries, encoded = append(c.Entries, entry), store.AppendEntry(encoded, &entry)
		}
		if _, err := w.Add(chain.Sequence+1, c.Encode(encoded)); err != nil {
			b.Fatal(err)
		}
	}
	if _, _, err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return file.Bytes()
}

// BenchmarkRestore restores logs, all that makes them durable and the reading back of them
// included: of one debit a commit, the most commits, and of 100.
func BenchmarkRestore(b *testing.B) {
	for _, each := range []int{1, 100} {
		commits := 200_000 / each
		b.Run(fmt.Sprintf("%d-a-commit", each), func(b *testing.B) {
			file := madeExport(b, commits, each)
			for b.Loop() {
				if _, err := Restore(b.Context(), bytes.NewReader(file), RestoreConfig{DataDir: b.TempDir()}); err != nil {
					b.Fatal(err)
				}
			}
			n := float64(b.N) * float64(commits)
			b.ReportMetric(n/b.Elapsed().Seconds(), "commits/s")
			b.ReportMetric(n*float64(each)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(len(file))/float64(commits*each), "bytes/event")
		})
	}
}
