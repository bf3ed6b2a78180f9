package store

import "strconv"

// Every stream, bucket, subject and header name keyledger uses, on one screen.
// Names are stored and shared with other programs: they are forever.
const (
	// SubjectCommand is followed by <account>.<noun>.<verb>.
	SubjectCommand = "keyledger.cmd."
	// SubjectQuery is followed by <account>.<noun>.<verb>; the account "_" is the ledger itself.
	SubjectQuery = "keyledger.query."
	// SubjectAuthorize is the hot path: one decision, or an array of them.
	SubjectAuthorize = "keyledger.authorize"

	// SubjectReplay begins the subjects on which a client may replay history to others, on
	// an embedded NATS. Nothing of keyledger's listens there.
	SubjectReplay = "replay."

	// StreamAttempts is the delivery log: one message an HTTP attempt. History for
	// people; delivery does not depend on it.
	StreamAttempts = "KEYLEDGER_ATTEMPTS"
	// SubjectAttempts is followed by <account>.<endpoint>.<outcome>.
	SubjectAttempts = "keyledger.attempts."

	// StreamAccess is the access log: refused and free authorisations, counted per key,
	// code and minute. History for people, and where the last use of keys comes from that
	// paid for nothing; no credits depend on it.
	StreamAccess = "KEYLEDGER_ACCESS"
	// SubjectAccess is followed by <account>.<code>; the account is "_" where none is known.
	SubjectAccess = "keyledger.access."

	// BucketKeys holds current keys under <account>.<environment>.<key id>.
	BucketKeys = "KEYLEDGER_KEYS"
	// BucketBalances holds current balances under <account>.<environment>.<asset>.
	BucketBalances = "KEYLEDGER_BALANCES"

	// BucketSnapshots is the object store of state snapshots, in stream OBJ_<bucket>.
	BucketSnapshots = "KEYLEDGER_SNAPSHOTS"

	// DirViews is the folder of checkpoints of the views in a data directory. A checkpoint is
	// called <partition>-<sequence of its base, 20 digits>.views; while it is written .tmp
	// follows.
	DirViews = "views"
	// SuffixCheckpoint ends the name of a checkpoint of the views.
	SuffixCheckpoint = ".views"
	// DirWebhooks is the folder of the saved directory of webhook endpoints in a data
	// directory; see FileDirectory.
	DirWebhooks = "webhooks"

	// HeaderCommandID carries a command's id, a ULID made by the client.
	HeaderCommandID = "Nats-Msg-Id"
	// HeaderTimeout is how long a caller waits, a Go duration. Default 5 s.
	HeaderTimeout = "Keyledger-Timeout"
	// HeaderTraceparent is a command's W3C trace context.
	HeaderTraceparent = "traceparent"
	// HeaderPosition is the position an answer is true at.
	HeaderPosition = "Keyledger-Position"
	// HeaderReplayed is "true" on an answer repeated from a receipt.
	HeaderReplayed = "Keyledger-Replayed"
	// HeaderMinPosition makes a query wait until its view has reached a position.
	HeaderMinPosition = "Keyledger-Min-Position"
	// HeaderConsistency "strict" makes a query see all that was acknowledged before it.
	HeaderConsistency = "Keyledger-Consistency"
	// HeaderErrorCode and HeaderError are the micro service headers of an error reply
	// (ADR-32): the HTTP status and the message.
	HeaderErrorCode = "Nats-Service-Error-Code"
	HeaderError     = "Nats-Service-Error"
)

// StreamLog is the stream of partition p's commits: the truth.
func StreamLog(p uint32) string { return "KEYLEDGER_LOG_" + number(p) }

// SubjectLog is the one subject of partition p's log.
func SubjectLog(p uint32) string { return "keyledger.log." + number(p) }

// StreamFeed is the stream of partition p's feed, one CloudEvent a message.
func StreamFeed(p uint32) string { return streamFeedPrefix + number(p) }

const streamFeedPrefix = "KEYLEDGER_EVENTS_"

// SubjectFeed is partition p's feed prefix, followed by
// <account>.<environment>.<noun>.<verb>.<subject id or ->.
func SubjectFeed(p uint32) string { return "keyledger.events." + number(p) + "." }

// StreamLanes is the stream of partition p's webhook lane checkpoints.
func StreamLanes(p uint32) string { return "KEYLEDGER_LANES_" + number(p) }

// SubjectLanes is the one subject of partition p's lane checkpoints.
func SubjectLanes(p uint32) string { return "keyledger.lanes." + number(p) }

// StreamCheckpoints is the stream of partition p's signed checkpoints: a note a message,
// oldest first.
func StreamCheckpoints(p uint32) string { return streamCheckpointsPrefix + number(p) }

const streamCheckpointsPrefix = "KEYLEDGER_CHECKPOINTS_"

// SubjectCheckpoints is the one subject of partition p's signed checkpoints. Whoever
// listens gets them as they are signed.
func SubjectCheckpoints(p uint32) string { return "keyledger.checkpoints." + number(p) }

// FileDirectory is the file of partition p's directory of webhook endpoints; while it is
// written .tmp follows.
func FileDirectory(p uint32) string { return number(p) + ".directory" }

func number(p uint32) string { return strconv.FormatUint(uint64(p), 10) }
