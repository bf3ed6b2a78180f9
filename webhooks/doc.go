// Package webhooks delivers events to customers' endpoints over HTTPS.
//
// Its leaf parts know nothing of the ledger, the log or NATS:
//
//   - Guard keeps deliveries away from addresses that are not on the public
//     Internet, at registration and at every dial;
//   - Client makes one HTTP attempt and says what came of it;
//   - Sign and the secrets follow the Standard Webhooks specification, v1;
//   - Schedule says what follows an attempt: delivered, another try, or dead.
package webhooks
