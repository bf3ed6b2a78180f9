// Package verify is for programs that receive keyledger's webhooks. It verifies
// the signatures of Standard Webhooks (https://www.standardwebhooks.com), v1
// (HMAC-SHA256) and v1a (ed25519), tells events that come again from new ones,
// and reads the CloudEvent in the body. It needs the standard library alone.
//
// Most programs need New, NewGuard and Handler; the example of the package is a
// whole receiver. Those that answer requests themselves call Verifier.Read and
// answer Status of its error.
package verify
