package mutants

// edit replaces a text that stands exactly once in a file.
type edit struct{ file, old, new string }

// mutant is the ledger without one mechanism, and the test that must fail then. The same
// rows stand in ARCHITECTURE.md, under "What each test protects".
type mutant struct {
	without string
	test    string // of package pkg
	pkg     string
	edits   []edit
}

const (
	group     = "ledger/writer/group.go"
	takeover  = "ledger/writer/takeover.go"
	writing   = "ledger/writer/writer.go"
	receipts  = "ledger/writer/receipts.go"
	jetstream = "events/store/jetstream.go"
	commit    = "events/store/commit.go"
	chain     = "events/store/chain.go"
	embedded  = "ledger/server/embedded.go"
	datadir   = "ledger/server/datadir.go"
	storage   = "ledger/writer/storage.go"
	restore   = "ledger/writer/restore.go"
	restoring = "ledger/server/restore.go"
	walk      = "ledger/writer/walk.go"
	segment   = "projections/archive/segment.go"
	attempt   = "webhooks/attempt.go"
	guard     = "webhooks/guard.go"
	following = "webhooks/follow.go"
	skip      = "webhooks/skip.go"
	verifying = "webhooks/verify/verify.go"

	writerTests = "./ledger/writer"
	storeTests  = "./events/store"
	serverTests = "./ledger/server"
	gate        = "ledger/server/credentials_gate.go"
	faultTests  = "./testing/faults"

	archiveTests = "./projections/archive"
	hookTests    = "./webhooks"
	verifyTests  = "./webhooks/verify"
)

// Edits that more than one row makes.
var (
	noFence = edit{jetstream, "jetstream.WithExpectLastSequence(expected), ", ""}

	answerEarly = edit{group, "	w.appends <- g\n", `	early := append([]pending(nil), g.waiting...)
	for i := range g.waiting {
		g.waiting[i].answered = true
	}
	w.answers <- answered{early, g.commit.Time}
	w.appends <- g
`}
	refuseEarly = edit{group, "	if !p.entry {\n		p.reply.Position = w.stateAt()\n", `	if p.reply.Err != nil {
		g.waiting = g.waiting[:len(g.waiting)-1]
		w.answerOne(req, &p.reply)
		return true
	}
	if !p.entry {
		p.reply.Position = w.stateAt()
`}
	freeEarly = edit{group, "	if !p.entry {\n		p.reply.Position = w.stateAt()\n", `	if p.reply.Err == nil && !p.entry {
		p.reply.Position = w.stateAt()
		g.waiting = g.waiting[:len(g.waiting)-1]
		w.answerOne(req, &p.reply)
		return true
	}
	if !p.entry {
		p.reply.Position = w.stateAt()
`}
	decideAgain = edit{takeover, "if g.message != nil && confirmed[g.commit.Nonce] {", "if false {"}
	noReceipts  = edit{group, "if req.Receipt && w.answeredBefore(p, req.Account) {", "if false {"}
	noEpoch     = edit{takeover, "return w.claim(ctx, chain)", "w.chain = *chain\n	return nil"}
	noSync      = edit{datadir, "if err := syncTree(d.path, (*os.File).Sync); err != nil {", "if err := error(nil); err != nil {"}
	lazy        = []edit{
		{embedded, "SyncAlways:             !opts.LazySync,", "SyncAlways:             false,"},
		{embedded, "if !config.SyncAlways && !lazyAllowed {", "if false {"},
	}
	forgetFeed   = edit{following, "	l.restored = d.restored.Feed\n", ""}
	forgetCursor = edit{following, "= state.Cursor, openDeliveries", "= l.restored, openDeliveries"}
	ignoreAck    = edit{group, "if a.sequence != c.Sequence {", "if false {"}
)

var table = []mutant{
	{"no fence", "TestLogs", storeTests, []edit{noFence}},
	{"no fence, on a bad line", "TestEveryVerdictEqualsTheLog", faultTests, []edit{noFence}},
	{"answer before ack", "TestNothingOvertakesTheAppend", writerTests, []edit{answerEarly}},
	{"answer before ack, as clients see it", "TestWriterIsLinearizable", faultTests, []edit{answerEarly}},
	{"answer before ack, against the log", "TestEveryVerdictEqualsTheLog", faultTests, []edit{answerEarly}},
	{"refuse before ack", "TestNothingOvertakesTheAppend", writerTests, []edit{refuseEarly}},
	{"refuse before ack, as clients see it", "TestWriterIsLinearizable", faultTests, []edit{refuseEarly}},
	{"free decision before ack", "TestNothingOvertakesTheAppend", writerTests, []edit{freeEarly}},
	{"free decision before ack, as clients see it", "TestWriterIsLinearizable", faultTests, []edit{freeEarly}},
	{"decide again what is in the log", "TestUnknownOutcome", writerTests, []edit{decideAgain}},
	{"blind re-send", "TestUnknownOutcome", writerTests, []edit{{
		writing, "sequence, err := w.cfg.Log.Append(ctx, g.message, g.commit.PrevSequence)\n", `sequence, err := w.cfg.Log.Append(ctx, g.message, g.commit.PrevSequence)
		if err != nil {
			last, _ := w.cfg.Log.Last(ctx)
			sequence, err = w.cfg.Log.Append(ctx, g.message, last)
		}
`}}},
	{"no receipts", "TestSameIDSameInputSameAnswer", writerTests, []edit{noReceipts}},
	{"no receipts, in a bank", "TestBankUnderKillNine", faultTests, []edit{noReceipts}},
	{"serve without epoch started", "TestWhatWasNotDoneStaysNotDone", writerTests, []edit{noEpoch}},
	{"serve without epoch started, on a bad line", "TestEveryVerdictEqualsTheLog", faultTests, []edit{noEpoch}},
	{"ignore the ack's sequence", "TestImpossibleAcknowledgementStops", writerTests, []edit{ignoreAck}},
	{"ignore the ack's sequence, on a bad line", "TestEveryVerdictEqualsTheLog", faultTests, []edit{ignoreAck}},
	{"two appends in flight", "TestNothingOvertakesTheAppend", writerTests, []edit{
		{group, "if w.inFlight == nil && !w.linger.holds", "if !w.linger.holds"},
		{group, "= w.chain.Sequence, w.chain.Hash, w.chain.Ordinal", "= w.sent.Sequence, w.sent.Hash, w.sent.Ordinal"},
		{writing, `		cancel()
		w.acks <- ack{group: g, sequence: sequence, err: err}
	}
	return nil
`, `		cancel()
		w.acks <- ack{group: g, sequence: sequence, err: err}
		}()
	}
	return nil
`},
		{writing, "	for g := range w.appends {\n", "	for g := range w.appends {\n		go func() {\n"},
	}},
	{"lazy sync", "TestSyncAlwaysUnlessAllowed", serverTests, lazy},
	{"lazy sync, when the power is cut", "TestPowerCut", faultTests, lazy},
	{"serve although syncs are lazy", "TestSyncAlwaysUnlessAllowed", serverTests, []edit{{embedded, "if !config.SyncAlways && !lazyAllowed {", "if false {"}}},
	{"no hash check", "TestEveryBitCounts", storeTests, []edit{{commit, "if sha256.Sum256(body) != Hash(sum) {", "if false {"}}},
	{"no check of the previous hash", "TestChainFindsDamage", storeTests, []edit{{chain, "case commit.PrevHash != c.Hash:", "case false:"}}},
	{"no check for missing messages", "TestJetStreamSkipsAreFound", storeTests, []edit{
		{chain, "if sequence != c.Sequence+1 {", "if false {"},
		{chain, "case commit.PrevSequence != c.Sequence:", "case false:"},
		{chain, "case commit.PrevHash != c.Hash:", "case false:"},
		{chain, "case commit.Ordinal != c.Ordinal:", "case false:"},
	}},
	{"hand on whole batches only", "TestReadCheckedStops", storeTests, []edit{{"events/store/read.go", "if handed := hand(); err == nil {", "if handed := error(nil); err == nil {"}}},
	{"read ahead without bound", "TestReadCheckedIsBounded", storeTests, []edit{{"events/store/read.go", "make(chan []decoded, batchesAhead)", "make(chan []decoded, 1000)"}}},
	{"no index of replayed receipts", "TestReceiptsAgainstANaiveModel", writerTests, []edit{{"ledger/writer/receipt_index.go", "if s.at(n).account != 0 {", "if false {"}}},
	{"no witness of the log's length", "TestWitnesses", writerTests, []edit{{takeover, "if witness.Sequence > end.Sequence {", "if false {"}}},
	{"no witness of the log's hash", "TestWitnesses", writerTests, []edit{{takeover, "if witness.Sequence == c.Sequence && witness.Hash != nil && *witness.Hash != c.Hash {", "if false {"}}},
	{"no witness of what was signed", "TestSignedCheckpointIsAWitness", serverTests, []edit{{"ledger/server/parts.go", "return append(append(list, signed...), beside...), err", "return append(append(list, signed[:0]...), beside...), err"}}},
	{"sign a restored ledger with the old key", "TestOldKeySignsNoRestoredLedger", serverTests, []edit{{"ledger/server/checkpoints.go", "if restored != nil && !restored.allows(key) {", "if restored != nil && !restored.allows(key) && false {"}}},
	{"sign on after a checkpoint of another log", "TestRestoreRefusesCheckpoints", serverTests, []edit{{"ledger/server/checkpoint_restored.go", "*next.Checkpoint != *want {", "*next.Checkpoint != *want && false {"}}},
	{"sign over a damaged tree", "TestDamageIsFoundBeforeTheNextSignature", "./projections", []edit{{"projections/checkpoint_sign.go", "c.checkConsistent(newest, next)", "c.checkConsistent(nil, next)"}}},
	{"go on from hashes that nobody signed", "TestAdoptRefuses", "./events/store/proof", []edit{{"events/store/proof/tree.go", "if edge.Root() != root {", "if false {"}}},
	{"no fsync at start", "TestDataDirWithAMissingVolume", serverTests, []edit{noSync}},
	{"no fsync at start, when the power is cut", "TestServedAfterKillNineSurvivesPowerCut", faultTests, []edit{noSync}},
	{"no hash over an export's blocks", "TestExportRefusesAnyOtherFile", storeTests, []edit{{"events/store/export_read.go", "err == nil && got != want", "err == nil && got != want && false"}}},
	{"serve what a restore did not finish", "TestRestoreStoppedAnywhere", serverTests, []edit{{datadir, "if err := d.checkRestored(); err != nil {", "if err := error(nil); err != nil {"}}},
	{"no fsync of a restored log", "TestRestoreSyncsEverything", serverTests, []edit{{restoring, "if err := syncTree(s.dir.natsDir(), r.cfg.sync); err != nil {", "if err := error(nil); err != nil {"}}},
	{"restore without the place of webhooks", "TestRestoredWebhooksGoOn", serverTests, []edit{{restoring, "_, err := r.s.js.Publish(ctx, store.SubjectLanes(partition), beside.Lanes)", "err := ctx.Err()"}}},
	{"evict receipts early", "TestForgottenReceiptIsExpired", writerTests, []edit{{receipts, "limit := now - milliseconds(receiptHorizon+idAhead)", "limit := now - milliseconds(receiptHorizon)"}}},
	{"no floor of the receipts' horizon", "TestTheFloorOfTheHorizon", writerTests, []edit{{receipts, "case horizon < milliseconds(receiptFloor):", "case false:"}}},
	{"no fairness of receipts", "TestReceiptsAgainstANaiveModel", writerTests, []edit{{receipts, "r.forget(r.most())", "r.forget(r.enter(account))"}}},
	{"no fairness of the intake", "TestIntakeLeavesRoom", writerTests, []edit{{"ledger/writer/intake.go", "l.len() >= q.limit-q.count", "q.count >= q.limit"}}},
	{"no lane for imported secrets", "TestJunkHoldsUpNoImportedKey", writerTests, []edit{{"ledger/writer/directory.go", "slot, ok := d.imported[a.SecretHash()]", "slot, ok := uint16(0), false"}}},
	{"pay twice with a signature", "TestDirectory", writerTests, []edit{{"ledger/signing.go", "case k.spent.has(s):", "case false:"}}},
	{"no clock guard", "TestClockJumps", writerTests, []edit{{"ledger/writer/clock.go", "off > tolerance || off < -tolerance", "false && off > tolerance"}}},
	{"forget that an expiry was told", "TestTimerAfterDowntime", writerTests, []edit{{"ledger/key.go", "expired := eventType == \"key.expired\"", "expired := false"}}},
	{"no reserve in the log", "TestTooFullForATakeover", writerTests, []edit{{storage, "return min(reserveBytes, limit/10)", "return 0 * limit"}}},
	{"go on after the storage failed", "TestStorageFailureEnds", writerTests, []edit{{storage, "case errors.Is(err, ErrStorageFailed):\n		return err", "case errors.Is(err, ErrStorageFailed):\n		return nil"}}},
	{"fold again what a snapshot holds", "TestSnapshotAndTailAreTheLog", writerTests, []edit{{takeover, "if c.Sequence > w.stamps[e.Events[j].Account] {", "if true {"}}},
	{"fold a transfer by the account of its entry", "TestTransferAcrossAWalk", writerTests, []edit{{takeover, "if c.Sequence > w.stamps[e.Events[j].Account] {", "if c.Sequence > w.stamps[e.Account] {"}}},
	{"transfer to one that is not up to date", "TestTransferMeetsWhatIsDueOfBoth", writerTests, []edit{{group, "ok && !w.meetDue(p, t.Touches())", "ok && t == nil"}}},
	{"stamp with the acknowledged end", "TestStampsAreAheadOfTheAcknowledgement", writerTests, []edit{{walk, "k.end = w.sent\n", "k.end = w.chain\n"}}},
	{"finish a snapshot before its end is acknowledged", "TestStampsAreAheadOfTheAcknowledgement", writerTests, []edit{{walk, "case k.next == k.accounts && w.chain.Sequence < k.end.Sequence:", "case false:"}}},
	{"fold again what the views saved", "TestViewsFromACheckpoint", "./projections", []edit{{"projections/checkpoint_load.go", "skip := found && c.Sequence <= u.stamps[i]", "skip := false"}}},
	{"answer from views of different moments", "TestViewsAreWholeOnlyBehindTheEnd", "./projections", []edit{{"projections/runner.go", "if r.ahead() {", "if false {"}}},
	{"no look at the sum of saved views", "TestDamagedCheckpoints", "./projections", []edit{{"projections/checkpoint_file.go", "!bytes.Equal(sum[:], f.sum)", "len(sum) == 0"}}},
	{"put what was made where it is not yet", "TestJoin", "./projections", []edit{{"projections/rebuild.go", "for j.chain.Sequence < r.applied.Sequence {", "for false {"}}},
	{"find every view equal", "TestVerifyFindsAWrongViewAndRebuildCuresIt", "./projections", []edit{{"projections/verify.go", "if p.Equal && !bytes.Equal(p.saved, p.other) {", "if bytes.Equal(p.saved, nil) && false {"}}},
	{"no look at a snapshot's base", "TestUnusableSnapshotsAreSkipped", writerTests, []edit{{restore, "case store.ChainAt(c) != base:", "case false:"}}},
	{"no check whose log it is", "TestLogOfAnotherLedger", serverTests, []edit{{"ledger/server/identity.go", "return identity, true, true, identity.Check(own)", "return identity, true, true, nil"}}},
	{"forget what was refunded", "TestRefundsReturnEverythingOnce", "./ledger", []edit{{"ledger/refund.go", "	a.more.refunded[id] = d.Refund.Refunded\n", "	_ = id\n"}}},
	{"take a later try's word for the first", "TestOutcomeStaysUnknown", "./ledger/client", []edit{{"ledger/client/client.go", "case unknown == nil, refused != nil && refused.Code != events.Unavailable:", "default:"}}},
	{"decide before what is due", "TestMidnight", writerTests, []edit{{group, "	if !w.meetDue(p, req.Account) {\n		return\n	}\n", ""}}},
	{"forget what was evicted", "TestReceiptLimitShortensTheHorizon", writerTests, []edit{{receipts, "	a.forgotten = max(a.forgotten, at)\n", ""}}},
	{"believe a file of the archive", "TestDamageIsMadeAgain", archiveTests, []edit{
		{segment, "crc32.Checksum(b, castagnoli) != k.sum", "len(b) != int(k.length)"},
		{segment, "store.Hash(sum.Sum(nil)) != s.Content", "len(sum.Sum(nil)) != len(s.Content)"},
	}},
	{"keep the archive of another log", "TestAnotherLog", archiveTests, []edit{{"projections/archive/files.go", "return err == nil && store.ChainAt(c) == at, err", "return err == nil && c.Sequence == at.Sequence, err"}}},
	{"count usage of an archive that is behind", "TestUsageWaitsForTheArchive", serverTests, []edit{{"ledger/server/usage.go", "known.Sequence, q.source()", "0, q.source()"}}},
	{"keep a turn to read while waiting", "TestTurnIsInOnePool", "./ledger/service", []edit{{"ledger/service/pool.go", "	t.end()\n	err :=", "	err :="}}},
	{"let one account have all of a pool", "TestPoolLimits", "./ledger/service", []edit{{"ledger/service/pool.go", "s.running < p.most() }", "s.running < p.atOnce }"}}},
	{"let in who came first, whatever its account has", "TestPoolOrder", "./ledger/service", []edit{{"ledger/service/pool.go", "s.running < fewest", "s.running < 0*fewest"}}},
	{"wait for what the log does not have", "TestWaitingHoldsUpNobody", "./ledger/service", []edit{{"ledger/service/query.go", "at.Sequence > end.Sequence {", "at.Sequence > end.Sequence && false {"}}},
	{"pass over hours of usage", "TestUsageOverSegments", archiveTests, []edit{{"projections/archive/usage.go", "end.time >= from && begin.time < to", "end.time > from+HourMS && begin.time < to"}}},
	{"count a request twice while it is stored", "TestCountWhileStoring", "./ledger/access", []edit{{"ledger/access/count.go", "(c.held == ulid.ULID{}) || r.ID.Compare(c.held) < 0", "true"}}},
	{"keep silent about what the access log lost", "TestCountOfWhatIsRetained", "./ledger/access", []edit{{"ledger/access/count.go", "max(since, retained)", "since + 0*retained"}}},
	{"sign a different body", "TestDeliveryAsAReceiverSeesIt", hookTests, []edit{{attempt, "Sign(r.ID, r.Now, r.Body, r.Keys...)", "Sign(r.ID, r.Now, r.Body[1:], r.Keys...)"}}},
	{"follow redirects", "TestHostileRedirects", hookTests, []edit{{attempt, "c.transport().RoundTrip(request)", "(&http.Client{Transport: c.transport()}).Do(request)"}}},
	{"sign with a former secret beyond its time", "TestFormerSecretsSignUntilTheirTime", hookTests, []edit{{"webhooks/unseal.go", "former.Until > events.At(at)", "former.Until >= events.At(at)"}}},
	{"forget an endpoint's own timeout", "TestEndpointHasItsOwnTimeout", hookTests, []edit{{"webhooks/deliver.go", ", Timeout: timeoutOf(f.endpoint)", ""}}},
	{"take any answer for consent", "TestConsentOfAnswers", hookTests, []edit{{"webhooks/consent.go", "if status < 200 || status > 299 {", "if false {"}}},
	{"drop Retry-After", "TestAnswers", hookTests, []edit{{attempt, "ParseRetryAfter(response.Header.Get(\"Retry-After\"), now)", "ParseRetryAfter(\"\", now)"}}},
	{"read the body outside the deadline", "TestBodyWithinTheDeadline", hookTests, []edit{
		{attempt, "c.within(ctx, r.Timeout)\n	defer cancel()\n	request", "context.WithCancel(ctx)\n	defer cancel()\n	late := time.AfterFunc(c.config.Timeout, cancel)\n	request"},
		{attempt, "	defer response.Body.Close()\n", "	defer response.Body.Close()\n	late.Stop()\n"},
	}},
	{"no limit on an answer's headers", "TestHostileFloodsAndBreaks", hookTests, []edit{{attempt, "MaxResponseHeaderBytes: maxRespHeaderBytes,", ""}}},
	{"dial a name of which one answer is refused", "TestHostileNames", hookTests, []edit{{guard, "	if err := g.checkDialled(addrs); err != nil {", "	if err := g.checkDialled(addrs); err != nil && false {"}}},
	{"no check of an address that was good once", "TestConnectionsAreCheckedAgain", hookTests, []edit{{attempt, "now.Sub(c.made) < c.lifetime", "!now.Before(c.made)"}}},
	{"skip the guard on retry", "TestHostileNames", hookTests, []edit{
		{guard, "	\"net\"\n", "	\"net\"\n	\"sync\"\n"},
		{guard, "	allow      []netip.Prefix ", "	passed     sync.Map\n	allow      []netip.Prefix "},
		{guard, "	if err := g.checkDialled(addrs); err != nil {\n", "	if _, again := g.passed.LoadOrStore(host, true); again {\n	} else if err := g.checkDialled(addrs); err != nil {\n"},
		{guard, "	return g.checkDialled([]netip.Addr{target.Addr()})\n", "	if _, again := g.passed.LoadOrStore(target.Addr(), true); again {\n		return nil\n	}\n	return g.checkDialled([]netip.Addr{target.Addr()})\n"},
	}},
	{"forget the cursor", "TestRestart", hookTests, []edit{forgetFeed, forgetCursor}},
	{"forget the cursor, under kill -9", "TestDeliveriesUnderKillNine", faultTests, []edit{forgetFeed, forgetCursor}},
	{"no fence on checkpoints", "TestSecondDispatcherFencesTheFirst", hookTests, []edit{{"webhooks/saver.go", "jetstream.WithExpectLastSequence(s.last), ", ""}}},
	{"ignore skip_to", "TestSkipTo", hookTests, []edit{{skip, "if e == nil || e.SkipTo == \"\" {", "if e == nil || e.SkipTo != \"-\" {"}}},
	{"ignore skip_to, under kill -9", "TestDeliveriesUnderKillNine", faultTests, []edit{{skip, "if e == nil || e.SkipTo == \"\" {", "if e == nil || e.SkipTo != \"-\" {"}}},
	{"count what a replay sends that was never owed", "TestReplayRange", hookTests, []edit{{"webhooks/reading.go", "if t := f.next.terms; t != nil && t.owes(w.endpoint, s) {", "if t := f.next.terms; t != nil && (w.replay != nil && w.replay.selects(s) || t.owes(w.endpoint, s)) {"}}},
	{"let age what is behind a parked cursor", "TestParked", hookTests, []edit{{"webhooks/park.go", "	if !l.parked || len(l.open)+", "	if true || len(l.open)+"}}},
	{"two of a key under way", "TestOrderOfKeys", hookTests, []edit{{"webhooks/group.go", "	return i == 0\n", "	return i >= 0\n"}, {"webhooks/group.go", "	if from == nil && l.ordered {\n", "	if from == nil && false {\n"}}},
	{"two of a key under way, under kill -9", "TestDeliveriesUnderKillNine", faultTests, []edit{{"webhooks/group.go", "	return i == 0\n", "	return i >= 0\n"}, {"webhooks/group.go", "	if from == nil && l.ordered {\n", "	if from == nil && false {\n"}}},
	{"make more attempts than the rate allows", "TestRate", hookTests, []edit{{"webhooks/slots.go", "			l.pace.spend(now)\n", ""}}},
	{"forget since when every attempt fails", "TestFailing", hookTests, []edit{{"webhooks/checkpoint.go", "Failing: l.failing.state(),", ""}}},
	{"let endpoints that hang keep their slots", "TestEndpointsThatBeginToHangHoldUpNobody", hookTests, []edit{{"webhooks/slots.go", "d.slow < limit {", "d.slow < min(limit, 0) {"}}},
	{"call settled what a key's failure withholds", "TestLaneAgainstAPlainModel", hookTests, []edit{{"webhooks/checkpoint.go", ", Groups: l.groupStates(),", ","}}},
	{"take a signature of any time", "TestTolerance", verifyTests, []edit{{verifying, "age > v.config.Tolerance {", "false {"}}},
	{"verify with the first secret alone", "TestPublishedVectors", verifyTests, []edit{{verifying, "for _, mac := range macs {", "for _, mac := range macs[:min(1, len(macs))] {"}}},
	{"forget from where a lane reads on", "TestRecallAgainstAPlainModel", hookTests, []edit{{"webhooks/recall.go", "l.behind, l.next = s.behind, s.next", "l.next = s.next"}}},
	{"forget what a lane had tried", "TestRecallAgainstAPlainModel", hookTests, []edit{{"webhooks/recall.go", "		l.resume(e)\n", ""}}},
	{"move a lane's cursor back", "TestRecallAgainstAPlainModel", hookTests, []edit{{"webhooks/checkpoint.go", "max(l.started(c.Feed).feed-1, l.restored)", "l.started(c.Feed).feed - 1"}}},
	{"call an open delivery settled where there is no room", "TestOpenDeliveryOfAShortLane", hookTests, []edit{{"webhooks/replay_state.go", "l.Cursor, l.Open = min(l.Cursor, l.Open[0].Feed-1), nil", "l.Open = nil"}}},
	{"read on by terms that have changed since", "TestTermsDoNotAddUp", hookTests, []edit{{"webhooks/reading.go", "		f.next.terms = f.next.terms.after(after)\n", "		_ = after\n"}}},
	{"wait for a feed that says nothing", "TestFeedThatTakesItsTime", hookTests, []edit{{"webhooks/refill.go", "log: now.Before(l.fromLog)", "log: false"}}},
	{"keep webhooks' directory of another log", "TestDirectoryThatIsNotUsed", hookTests, []edit{{"webhooks/recall.go", "if at != saved.at {", "if false {"}}},
	{"remember an event whose handling failed", "TestGuardRemembersWhatWasHandled", verifyTests, []edit{{"webhooks/verify/guard.go", "done = err == nil", "done = true"}}},
	{"remember every event", "TestGuardRemembersWhatWasHandled", verifyTests, []edit{{"webhooks/verify/guard.go", "if len(g.ring) < g.size {", "if true {"}}},
	{"let anybody in who knows a name", "TestAnonymousAndUnknownAreRefused", serverTests, []edit{{gate, "return err == nil && key.Verify(nonce, raw) == nil", "return err == nil && (key.Verify(nonce, raw) == nil || len(raw) > 0)"}}},
	{"let keyledger's own keys in from outside", "TestAnonymousAndUnknownAreRefused", serverTests, []edit{{gate, "addr.Network() == \"pipe\"", "true"}}},
	{"leave the connections of a revoked credential", "TestRevokedConnectionsEnd", serverTests, []edit{{gate, "_ = g.server.DisconnectClientByID(conn.Cid)", "_ = conn.Cid"}}},
	{"leave connections open beyond their time", "TestCredentialExpires", serverTests, []edit{{gate, ", ConnectionDeadline: user.until})", "})"}}},
	{"let in whom the disk does not know", "TestCredentialsThatCannotBeWritten", serverTests, []edit{{"ledger/server/credentials.go", "err := k.dir.writeCredentials(sortedCredentials(next))", "err := error(nil)"}}},
	{"one inbox for all", "TestRolesMayDoTheirOwnOnly", serverTests, []edit{{"ledger/server/identities.go", "store.InboxRoot + c.Inbox + \".>\"", "inboxes"}}},
	{"take what NATS answers for a command", "TestServersAnswersAreNoCommands", serverTests, []edit{{"ledger/service/service.go", "if r.fromServer() {", "if r.fromServer() && false {"}}},
	{"answer a credential where it may not publish", "TestRolesAreAnsweredAtInboxesOnly", serverTests, []edit{{"ledger/server/consumer_guard.go", "case !isInbox(m.Reply) && (", "case m.Reply == \"\" && ("}}},
	{"a customer's consumer of any account", "TestRolesMayDoTheirOwnOnly", serverTests, []edit{{"ledger/server/identities.go", "{consumer}.{feed}{account}.>", "{consumer}.>"}}},
	{"a reader that starts work", "TestReadersOnlyRead", serverTests, []edit{{"ledger/server/identities.go", "Deny: roleDenied[c.Role]", "Deny: roleDenied[\"\"]"}}},
	{"take who hides for the operator", "TestActors", serverTests, []edit{{"ledger/server/credentials_actor.go", "return actorUnknown", "return actorOperator"}}},
	{"give rights without the gate's lock", "TestGateHoldsItsLock", serverTests, []edit{{gate, "	defer g.mu.RUnlock()\n	user := g.users[opts.Nkey]\n", "	user := g.users[opts.Nkey]\n	g.mu.RUnlock()\n"}}},
}
