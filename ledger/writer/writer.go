// Package writer is the single writer of a partition. It holds the partition's state in
// memory, decides commands one after the other and commits them in groups: as many as
// arrived while the previous commit was being made durable. Exactly one append is in
// flight, and nothing is answered before the append it rests on is acknowledged.
package writer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

// Config says how a Writer works. Log and Tail are required.
type Config struct {
	Log       store.Log
	Tail      *store.Tail // told of every acknowledged commit
	Partition uint32
	Logger    *slog.Logger // default: none

	// Clock is the wall clock, default time.Now. Monotonic is one that nobody can set,
	// default the time since New: see clockGuard.
	Clock     func() time.Time
	Monotonic func() time.Duration

	// Dir is where the head witness is kept, in the file "head". Empty: no head witness.
	Dir string

	// Witnesses returns what else proves that the log once reached a place. It is asked
	// at each takeover.
	Witnesses func(context.Context) ([]Witness, error)

	// Storage tells how full the log is, five times a second. An error that is ErrStorageFailed
	// stops the writer. Nil: it is never full.
	Storage func(context.Context) (Usage, error)

	// Unrecorded is told of each authorisation that is answered and leaves no event: a
	// refusal, or an allowed request that cost nothing; at is the time it was decided at. It
	// is called beside the writer's work, before the answer is given out, and must neither
	// block nor keep what it gets. Nil: nobody is told.
	Unrecorded func(a *ledger.Authorize, answer *ledger.Answer, at events.Time)

	// Notices is how long before a key's expiry key.expiring tells of it, as
	// ledger.CheckNotices takes it. Nil: ledger.DefaultNotices; empty: never.
	Notices []time.Duration

	// AppendTimeout is how long an append may take before its outcome counts as unknown.
	// Default 2 s.
	AppendTimeout time.Duration

	// MaxWaiting is how many requests may wait, those of one account at most half; one
	// more gets "unavailable" at once. Default 65,536. Their bodies have at most 256 MiB.
	MaxWaiting int

	// MaxReceipts is how many receipts are kept, of ReceiptBytes each; past it the horizon
	// of the account that has the most shortens. Default 8,947,848, which is 512 MiB.
	MaxReceipts int

	// Snapshots is where snapshots of the state are kept. Nil: none are made, and each
	// start replays the whole log.
	Snapshots store.Snapshots

	// SnapshotEvery is how many commits and events (their sum) the log goes on after a
	// snapshot before the next one; no fewer than there are accounts. Default 200,000.
	SnapshotEvery int

	// SnapshotPause is the least time between two snapshots. Default 1 minute.
	SnapshotPause time.Duration
}

// Request is one command or authorisation on its way through the writer. A Request with
// neither is a barrier: its reply comes after all that was acknowledged before it.
// AcceptClock makes a barrier an operator's word that the wall clock is right.
type Request struct {
	// Of a command.
	Account string
	Verb    string
	Spec    *ledger.Spec
	Command ledger.Command

	// Of an authorisation, instead. One that is Signed, or comes in one lane behind such a one,
	// is decided once its signature is verified.
	Authorize *ledger.Authorize
	Signed    bool

	AcceptClock bool

	// Preview looks what would become of a command, without doing it: a refusal, the first
	// answer to an id that was used, or what it would change as it stands.
	Preview bool

	ID        ulid.ULID  // of the caller, or made at the edge
	Receipt   bool       // the id is the caller's: keep a receipt
	Bytes     int        // of the body
	InputHash store.Hash // SHA-256(subject, NUL, body)
	Actor     string
	Trace     *events.Trace // the trace it belongs to; nil: none
	Deadline  time.Time

	// Lane, when not 0, puts the request behind all others of that lane and before those
	// that come after it: requests that must be decided in order share one.
	Lane uint16

	// Done gets the reply, exactly once, on a goroutine of the writer's or of Submit's
	// caller; it must not block.
	Done func(*Reply)
}

// Reply is the outcome of a Request.
type Reply struct {
	Err      *events.Error // of a refusal, then nothing else is set but Position
	Data     events.Data   // of a command: the noun after it; of a Preview: ledger.Decision.Before
	Answer   ledger.Answer // of an authorisation
	Position events.Position
	Replayed bool // the first answer again, from a receipt
}

// Stats is a look at a writer from outside.
type Stats struct {
	Serving  bool  `json:"serving"`
	Epoch    int64 `json:"epoch"`
	Commits  int64 `json:"commits"` // acknowledged since the start
	Entries  int64 `json:"entries"`
	Accounts int64 `json:"accounts"`
	Keys     int64 `json:"keys"`
	Waiting  int64 `json:"waiting"`
	// Receipts is how many there are, ReceiptLimit how many there may be, ReceiptBytes the
	// memory that each takes.
	Receipts     int64 `json:"receipts"`
	ReceiptLimit int64 `json:"receipt_limit"`
	ReceiptBytes int64 `json:"receipt_bytes"`
	// HorizonMS is how far back in milliseconds an unknown command id is still taken, of
	// the account where that is least. The two below count accounts as of the last sweep,
	// which goes over 16 accounts with each commit.
	HorizonMS int64 `json:"receipt_horizon_ms"`
	// BelowFull is how many accounts have a horizon of less than 24 hours.
	BelowFull int64 `json:"receipt_accounts_below_24h"`
	// BelowFloor is how many accounts have one of less than 5 minutes: their new ids are
	// refused.
	BelowFloor int64 `json:"receipt_accounts_below_5m"`
	// ClockOffMS is how far the wall clock is off; while it is, nothing is decided.
	ClockOffMS int64 `json:"clock_off_ms"`

	LogBytes        int64 `json:"log_bytes"`
	LogBytesMax     int64 `json:"log_bytes_max"`
	VolumeBytesFree int64 `json:"volume_bytes_free"`
	StorageFull     bool  `json:"storage_full"` // only the reserve is left
	ReadOnly        bool  `json:"read_only"`    // not even that

	// Snapshot is the newest snapshot that was made or started from, null if none.
	Snapshot *SnapshotStats `json:"snapshot"`
}

// Writer is the single writer of a partition.
type Writer struct {
	cfg        Config
	id         ulid.ULID
	log        *slog.Logger
	intake     intake
	unverified intake // in front of it, for what is signed
	directory  *directory

	// Owned by the goroutine of Run.
	state    *ledger.State
	receipts *receipts
	chain    store.Chain // acknowledged end
	sent     store.Chain // chain after the append in flight, else equal to chain
	open     *group      // being filled
	inFlight *group      // appended, not acknowledged; nil when none
	spare    buffers     // of the last group that was acknowledged
	entries  int         // in the last commit
	linger   linger
	clock    clockGuard
	zero     time.Time // of the monotonic clock, on the wall clock at New
	head     *headFile
	// stamps are those of accounts that the snapshot which was started from has further
	// than its base. Nil while serving.
	stamps map[string]uint64

	snapshots *snapshots

	appends chan *group             // to the appender
	acks    chan ack                // from it
	answers chan answered           // to the answerer
	stats   [statCount]atomic.Int64 // see Stats
	serving atomic.Bool
	room    room

	readyOnce sync.Once
	ready     chan struct{} // closed when the tail first ends where the log does
}

// Indexes of Writer.stats.
const (
	statEpoch = iota
	statCommits
	statEntries
	statAccounts
	statKeys
	statReceipts
	statHorizon
	statBelowFull
	statBelowFloor
	statClockOff
	statCount
)

// answered is replies that are given out, with the time they were decided at.
type answered struct {
	waiting []pending
	at      events.Time
}

type ack struct {
	group    *group
	sequence uint64
	err      error
}

// ErrImpossible means that the log answered an append with what cannot be. The writer
// stops: it cannot know what the log holds.
var ErrImpossible = errors.New("impossible acknowledgement")

// New makes a Writer. Run starts it.
func New(cfg Config) *Writer {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Monotonic == nil {
		begin := time.Now()
		cfg.Monotonic = func() time.Duration { return time.Since(begin) }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.AppendTimeout == 0 {
		cfg.AppendTimeout = 2 * time.Second
	}
	if cfg.MaxWaiting == 0 {
		cfg.MaxWaiting = 65_536
	}
	if cfg.MaxReceipts == 0 {
		cfg.MaxReceipts = defaultMaxReceipts
	}
	if cfg.SnapshotEvery == 0 {
		cfg.SnapshotEvery = defaultSnapshotEvery
	}
	if cfg.SnapshotPause == 0 {
		cfg.SnapshotPause = defaultSnapshotPause
	}
	return &Writer{
		zero: cfg.Clock().Add(-cfg.Monotonic()),
		cfg:  cfg, id: ulid.Make(), log: cfg.Logger,
		intake: newIntake(cfg.MaxWaiting), unverified: newIntake(maxUnverified), directory: newDirectory(),
		linger: newLinger(), snapshots: newSnapshots(&cfg), clock: clockGuard{wall: cfg.Clock, monotonic: cfg.Monotonic}, ready: make(chan struct{}),
		appends: make(chan *group, 1), acks: make(chan ack, 1), answers: make(chan answered, 4),
	}
}

// Submit hands a request in; its Done may be called at once, with "unavailable", when
// too much is waiting or the writer has stopped.
func (w *Writer) Submit(req *Request) {
	into := &w.intake
	if req.Authorize != nil {
		if w.directory.place(req.Authorize); req.Signed {
			into = &w.unverified
		}
	}
	w.enter(into, req)
}

func (w *Writer) enter(into *intake, req *Request) {
	if !into.put(req) {
		req.Done(&Reply{Err: events.Errorf(events.Unavailable, "too many commands are waiting; try again")})
	}
}

// Run takes the partition over and serves until ctx ends; then it finishes what it has
// appended, answers it and returns nil. An error is fatal: the log is damaged, lost what
// it once held, answers what cannot be, or cannot be written (ErrStorageFailed).
func (w *Writer) Run(ctx context.Context) error {
	if w.cfg.Dir != "" {
		head, err := openHead(filepath.Join(w.cfg.Dir, HeadName))
		if err != nil {
			return err
		}
		w.head = head
		defer head.Close()
	}
	ctx, stop := context.WithCancel(ctx)
	helpers := new(errgroup.Group)
	helpers.Go(w.appender)
	helpers.Go(func() error { return w.answerer(ctx) })
	beside, stopBeside := context.WithCancel(context.Background())
	helpers.Go(func() error { return w.snapshots.keep(beside) })
	helpers.Go(func() error { return w.verifier(beside) })
	err := w.lookAtStorage(ctx) // the takeover must know what room there is
	if err == nil {
		helpers.Go(func() error { return w.watchStorage(ctx, stop) })
		err = w.run(ctx)
	}
	stop()
	w.serving.Store(false)
	stopBeside()
	close(w.snapshots.slices)
	for _, req := range append(w.unverified.close(), w.intake.close()...) {
		w.answerOne(req, &Reply{Err: events.Errorf(events.Unavailable, "keyledger is stopping; try again")})
	}
	close(w.appends)
	close(w.answers)
	return errors.Join(err, helpers.Wait())
}

func (w *Writer) run(ctx context.Context) error {
	var lost []*group
	for {
		if err := w.takeover(ctx, lost); err != nil {
			w.giveUp(lost)
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		w.serving.Store(true)
		w.readyOnce.Do(func() { close(w.ready) })
		err := w.serve(ctx)
		w.serving.Store(false)
		lost = nil
		for _, g := range []*group{w.inFlight, w.open} {
			if g != nil {
				lost = append(lost, g)
			}
		}
		w.inFlight, w.open = nil, nil
		if err == nil || errors.Is(err, ErrImpossible) {
			w.giveUp(lost)
			return err
		}
		w.log.Warn("the outcome of an append is unknown: taking the partition over again", "error", err)
	}
}

// Ready is closed once the tail's end is the log's end for the first time: the partition
// is ours, or the log is too full for that and can be read.
func (w *Writer) Ready() <-chan struct{} { return w.ready }

// Stats returns a look at the writer.
func (w *Writer) Stats() Stats {
	s := Stats{
		Serving: w.serving.Load(), Epoch: w.stats[statEpoch].Load(),
		Commits: w.stats[statCommits].Load(), Entries: w.stats[statEntries].Load(),
		Accounts: w.stats[statAccounts].Load(), Keys: w.stats[statKeys].Load(),
		Receipts: w.stats[statReceipts].Load(), ReceiptLimit: int64(w.cfg.MaxReceipts), ReceiptBytes: ReceiptBytes,
		HorizonMS: w.stats[statHorizon].Load(),
		BelowFull: w.stats[statBelowFull].Load(), BelowFloor: w.stats[statBelowFloor].Load(),
		ClockOffMS: w.stats[statClockOff].Load(), Waiting: int64(w.unverified.len() + w.intake.len()), Snapshot: w.snapshots.stats(),
	}
	w.room.stats(&s)
	return s
}

// appender makes one append after the other. It is a goroutine of its own so that the
// writer can decide the next group meanwhile.
func (w *Writer) appender() error {
	for g := range w.appends {
		ctx, cancel := context.WithTimeout(context.Background(), w.cfg.AppendTimeout)
		sequence, err := w.cfg.Log.Append(ctx, g.message, g.commit.PrevSequence)
		cancel()
		w.acks <- ack{group: g, sequence: sequence, err: err}
	}
	return nil
}

// maxReplays is how many first answers are looked up in the log at once.
const maxReplays = 64

// answerer gives replies out, beside the writer's work. It never waits for a look-up: the
// writer would wait for it, and everybody for the writer. Look-ups for what was not done
// yet end with ctx.
func (w *Writer) answerer(ctx context.Context) error {
	var replays, searches errgroup.Group
	replays.SetLimit(maxReplays)
	searches.SetLimit(maxSearches)
	for batch := range w.answers {
		for i := range batch.waiting {
			p := &batch.waiting[i]
			switch {
			case p.answered:
			case p.citation != nil:
				lookups := &searches
				if p.citation.receipt != nil {
					lookups = &replays
				}
				if !lookups.TryGo(func() error { w.cite(ctx, p); return nil }) {
					p.req.Done(&Reply{Err: events.Errorf(events.Unavailable, "too many entries are being looked up in the log, and nothing was done; try again")})
				}
			case p.replay == nil:
				if !p.entry && p.req.Authorize != nil && p.reply.Err == nil && w.cfg.Unrecorded != nil {
					w.cfg.Unrecorded(p.req.Authorize, &p.reply.Answer, batch.at)
				}
				p.req.Done(&p.reply)
			case !replays.TryGo(func() error { w.replay(p); return nil }):
				p.req.Done(&Reply{Err: events.Errorf(events.OutcomeUnknown, "this was done before, but too many first answers are being looked up; try again with the same id")})
			}
		}
	}
	return errors.Join(replays.Wait(), searches.Wait())
}

// answerOne gives one reply out from the writer's own goroutine.
func (w *Writer) answerOne(req *Request, reply *Reply) {
	w.answers <- answered{waiting: []pending{{req: req, reply: *reply}}}
}

// headFile is the head witness: the newest acknowledged sequence and hash, written after
// each acknowledgement without fsync. The log is synced before it is acknowledged, so
// the head can be older than the log and never newer, unless the log lost something.
type headFile struct{ f *os.File }

// HeadName is the file's name: stored, for ever.
const HeadName = "head"

const headFormat = "%020d %s\n"

func openHead(path string) (*headFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the head witness: %w", err)
	}
	return &headFile{f}, nil
}

// Close closes the file.
func (h *headFile) Close() error { return h.f.Close() }

// note writes the newest place. If we stop in the middle of it the line does not parse
// and counts as no witness.
func (h *headFile) note(c *store.Chain) error {
	_, err := h.f.WriteAt(fmt.Appendf(nil, headFormat, c.Sequence, c.Hash), 0)
	return err
}

// read returns the witness, false where there is none that can be read.
func (h *headFile) read() (Witness, bool) {
	b := make([]byte, 20+1+64+1)
	if _, err := h.f.ReadAt(b, 0); err != nil {
		return Witness{}, false
	}
	var sequence uint64
	var sum []byte
	if _, err := fmt.Sscanf(string(b), "%d %x\n", &sequence, &sum); err != nil || len(sum) != 32 {
		return Witness{}, false
	}
	hash := store.Hash(sum)
	return Witness{Name: "head file", Sequence: sequence, Hash: &hash}, true
}
