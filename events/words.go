package events

// Words are the usual values of strings that Word codes, types of events among them. A
// million events name them many millions of times: reading one takes no memory and no
// look into a map.

// word is one of them.
type word struct {
	text string
	kind *Kind // of a type of event
}

// wordSlots is how many places the table has, a power of two: so many more than there are
// words that a word is mostly where it is looked for first.
const wordSlots = 512

var words = func() (table [wordSlots]word) {
	put := func(w word) {
		if b := []byte(w.text); len(b) > 0 {
			table[place(&table, b)] = w
		}
	}
	for _, text := range []string{
		Test, Live, Read, Write, Active, Suspended, Closed, Disabled, Revoked, Standard, Restricted, CurrentSecret, string(OK), Paid, Promotional,
		"authorize", "credit.debit", "credit.grant", "key.create", "operator",
		OldSecret, AllowanceGrant, OverdraftGrant, Credits, Fiat, Crypto, Any, Day, Month, "UTC",
	} {
		put(word{text: text})
	}
	for i := range Catalog {
		put(word{Catalog[i].Name, &Catalog[i]})
	}
	return table
}()

// findWord returns the word that b spells, one without text where there is none.
func findWord(b []byte) *word {
	if len(b) == 0 {
		return &noWord
	}
	return &words[place(&words, b)]
}

var noWord word

// Shared returns the one copy of a usual word that all share, or s itself.
func Shared(s string) string {
	if w := findWord([]byte(s)); w.text != "" {
		return w.text
	}
	return s
}

// place is where the word that b spells stands, or the free place where it would. B is not
// empty.
func place(table *[wordSlots]word, b []byte) uint {
	n := uint(len(b))
	at := 3*n + 5*uint(b[0]) + 25*uint(b[n-1]) + 125*uint(b[n/2])
	for ; ; at++ {
		if w := &table[at%wordSlots]; w.text == string(b) || w.text == "" {
			return at % wordSlots
		}
	}
}
