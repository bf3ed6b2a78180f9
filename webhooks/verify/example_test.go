package verify_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/keyledger/keyledger/webhooks"
	"github.com/keyledger/keyledger/webhooks/verify"
)

// deliver posts an event as keyledger does.
func deliver(url, id, body string) *http.Response {
	key, err := webhooks.ParseSecret(vectorSecret)
	if err != nil {
		panic(err)
	}
	now := time.Now()
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	r.Header = headers(id, now, webhooks.Sign(id, now, []byte(body), v1(key)))
	r.Header.Set("Content-Type", webhooks.ContentType)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		panic(err)
	}
	response.Body.Close()
	return response
}

// A whole receiver. Each event is handled once, however often it comes.
func Example() {
	verifier, err := verify.New(verify.Config{Keys: []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}})
	if err != nil {
		panic(err)
	}
	guard, err := verify.NewGuard(0)
	if err != nil {
		panic(err)
	}
	hooks := verify.Handler(verifier, guard, func(ctx context.Context, e *verify.Event) error {
		fmt.Printf("%d: %s on %s: %s\n", e.Sequence, e.Type, e.Subject, e.Data)
		return nil
	})
	server := httptest.NewServer(hooks) // http.ListenAndServe(":8080", hooks)
	defer server.Close()

	fmt.Println(deliver(server.URL, eventID, eventBody).StatusCode)
	fmt.Println(deliver(server.URL, eventID, eventBody).StatusCode)
	// Output:
	// 7: dev.keyledger.credit.debited.v1 on key_01J: {"amount":100}
	// 204
	// 204
}

// A receiver that answers in its own way.
func ExampleVerifier_Read() {
	verifier, err := verify.New(verify.Config{Keys: []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}})
	if err != nil {
		panic(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		event, err := verifier.Read(r)
		switch {
		case errors.Is(err, verify.ErrSignature):
			fmt.Println("somebody else knocks")
			w.WriteHeader(http.StatusUnauthorized)
		case err != nil:
			w.WriteHeader(verify.Status(err))
		case event.Type == "dev.keyledger.credit.debited.v1":
			w.WriteHeader(http.StatusGone) // send nothing more
		}
	}))
	defer server.Close()

	fmt.Println(deliver(server.URL, eventID, eventBody).StatusCode)
	// Output: 410
}
