//go:build !linux

package main

// totalMemory is the machine's memory in bytes, 0 where it cannot be told: then there is
// no limit of ours.
func totalMemory() int64 { return 0 }
