// Package mutants takes the mechanisms of the ledger out, one at a time, and looks
// whether the test that is named for each finds that out. A check that cannot fail proves
// nothing.
//
// That every row still fits the code and builds is checked with all tests; make mutants runs them.
package mutants
