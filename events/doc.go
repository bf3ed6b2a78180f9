// Package events is keyledger's vocabulary: the facts it records, their names, their
// stored and public forms, and the codes by which a wish is refused. It is a leaf:
// every other package may import it and it imports none of them.
//
// Every event struct has two forms. The binary form, written by its Code method, goes
// into the log and holds everything. The JSON form, given by its struct tags, is what
// people and programs outside see: members that must not leave (hashes of secrets,
// sealed values, query parts of URLs) are tagged "-" and so are absent from the feed,
// webhooks, views and replay.
package events
