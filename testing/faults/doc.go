// Package faults breaks keyledger as the world does and checks that its promises hold.
// Small counts run with the other tests; KEYLEDGER_FAULTS_ROUNDS raises them.
package faults
