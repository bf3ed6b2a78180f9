// Package tidy is the rules of this house, as tests that walk the repository: who may
// import whom, what stands at the top, how long a file and a function may be, what has
// to be documented, and what is not written here at all. Each rule says why.
package tidy
