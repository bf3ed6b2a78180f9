package webhooks

import "strings"

// phasePing: there was a whole answer, and it is no 2xx.
const phasePing Phase = "ping"

// hints are what to do about an error of a phase, by how it begins; the first that fits
// counts.
var hints = []struct {
	phase Phase
	error string
	hint  string
}{
	{PhaseGuard, "address refused: scheme", "the URL must begin with https://; plain http is the operator's to allow (--allow-http-endpoints)"},
	{PhaseGuard, "address refused: port", "use port 443, 80, or one from 1024 on"},
	{PhaseGuard, "custom header refused", "a custom header is not allowed any more: set the endpoint's headers anew"},
	{PhaseGuard, "", "the URL leads to an address that is not public; the operator can allow a network (--allow-endpoint-net)"},
	{PhaseDNS, "no such host", "the name has no address: is it spelled right, and is its DNS record there?"},
	{PhaseDNS, "", "the name's DNS servers do not answer: look at the zone, and try again"},
	{PhaseConnect, "connection refused", "nothing listens on this port: is the receiver running?"},
	{PhaseConnect, "", "no connection comes about: look at the receiver's firewall, and whether it is running"},
	{PhaseTLS, "certificate not trusted", "no known authority vouches for the certificate: install one that is publicly trusted, with all its intermediates"},
	{PhaseTLS, "certificate is for another name", "the certificate does not have the name in the URL: change one of them"},
	{PhaseTLS, "certificate expired", "renew the certificate, and look at the receiver's clock"},
	{PhaseTLS, "no TLS on this port", "the port speaks plain http: give the one that speaks https"},
	{PhaseTLS, "", "the receiver must speak TLS 1.2 or 1.3"},
	{PhaseConsent, "answered 405", "the receiver does not answer OPTIONS: answer it with this sender in WebHook-Allowed-Origin; webhooks/verify does"},
	{PhaseConsent, "", "answer OPTIONS with 200, and with WebHook-Request-Origin's value, or *, in WebHook-Allowed-Origin; webhooks/verify does"},
	{PhaseSeal, "", "tell the operator: is the seal key the one that the endpoint was registered with?"},
	{phasePing, "answered 3", "redirects are not followed: register the URL that they lead to"},
	{phasePing, "answered 401", "the receiver did not accept the signature: does it verify the raw body, with this endpoint's secret, and is its clock right?"},
	{phasePing, "answered 403", "the receiver refuses the request: does it need a custom header, or is something before it in the way?"},
	{phasePing, "answered 404", "nothing answers at this path: is the URL right?"},
	{phasePing, "answered 405", "the receiver must take POST at this URL"},
	{phasePing, "answered 410", "410 tells keyledger to stop: the first delivery that is answered so disables the endpoint"},
	{phasePing, "answered 429", "the receiver has too much to do: it is given a pause; register it with a rate"},
	{phasePing, "", "look at the receiver's own log; it must answer 2xx to every event that it has taken, of a type that it does not know too"},
	{PhaseWrite, "", "the receiver closes the connection before it has read the request: look at its own log"},
	{PhaseHeaders, "timed out", "the receiver takes too long: answer first and work later, or give the endpoint a longer timeout (at most 30s)"},
	{PhaseBody, "timed out", "the receiver does not end its answer: send a short body, or none"},
	{"", "", "look at the receiver's own log"},
}

// hint says what to do about an error.
func hint(phase Phase, text string) string {
	for _, h := range hints {
		if (h.phase == phase || h.phase == "") && strings.HasPrefix(text, h.error) {
			return h.hint
		}
	}
	return ""
}
