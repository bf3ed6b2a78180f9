//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package main

import "io"

// screenWidth is how many columns the terminal w has: it cannot be told here.
func screenWidth(io.Writer) int { return 0 }
