package server

import (
	"fmt"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events/store"
)

// BenchmarkRequest is what NATS allows at most: requests a second with 256 in flight,
// 200 bytes each way, from the operator over TCP to an echo inside the process. "open"
// is a nats-server without users; "ours" is the embedded one; "import" is what it would
// be if commands crossed between accounts.
func BenchmarkRequest(b *testing.B) {
	b.Run("open", func(b *testing.B) {
		s := plainServer(b, nil, nil)
		echo(b, dial(b, s, nats.InProcessServer(s)), dial(b, s))
	})
	b.Run("ours", func(b *testing.B) {
		r := newRig(b, nil)
		echo(b, r.service(), r.client().Conn)
	})
	b.Run("import", func(b *testing.B) {
		one, two := natsserver.NewAccount("ONE"), natsserver.NewAccount("TWO")
		if err := one.AddServiceExport(store.SubjectAuthorize, nil); err != nil {
			b.Fatal(err)
		}
		if err := two.AddServiceImport(one, store.SubjectAuthorize, store.SubjectAuthorize); err != nil {
			b.Fatal(err)
		}
		s := plainServer(b, []*natsserver.Account{one, two}, []*natsserver.User{{Username: "1", Password: "x", Account: one}, {Username: "2", Password: "x", Account: two}})
		echo(b, dial(b, s, nats.InProcessServer(s), nats.UserInfo("1", "x")), dial(b, s, nats.UserInfo("2", "x")))
	})
}

// BenchmarkOrderedConsumer is how fast the feed is read, messages of 500 bytes: by
// keyledger itself, and by the operator over TCP, across the wall.
func BenchmarkOrderedConsumer(b *testing.B) {
	for _, who := range []string{"own", "operator"} {
		b.Run(who, func(b *testing.B) {
			r := newRig(b, nil)
			_, own := r.store()
			if _, err := own.CreateStream(b.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, MaxBytes: 4 << 30, PersistMode: jetstream.AsyncPersistMode}); err != nil {
				b.Fatal(err)
			}
			body := make([]byte, 500)
			for range b.N {
				if _, err := own.PublishAsync("s", body); err != nil {
					b.Fatal(err)
				}
			}
			<-own.PublishAsyncComplete()
			js := own
			if who == "operator" {
				js = r.client().js
			}
			oc, err := js.OrderedConsumer(b.Context(), "S", jetstream.OrderedConsumerConfig{})
			if err != nil {
				b.Fatal(err)
			}
			it, err := oc.Messages()
			if err != nil {
				b.Fatal(err)
			}
			defer it.Stop()
			b.ResetTimer()
			for range b.N {
				if _, err := it.Next(jetstream.NextMaxWait(patience)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

func plainServer(b *testing.B, accounts []*natsserver.Account, users []*natsserver.User) *natsserver.Server {
	b.Helper()
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoSigs: true, NoLog: true, Accounts: accounts, Users: users})
	if err != nil {
		b.Fatal(err)
	}
	s.Start()
	b.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

func dial(b *testing.B, s *natsserver.Server, opts ...nats.Option) *nats.Conn {
	b.Helper()
	nc, err := nats.Connect(s.ClientURL(), opts...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	return nc
}

func echo(b *testing.B, service, client *nats.Conn) {
	b.Helper()
	const inFlight = 256
	body := make([]byte, 200)
	if _, err := service.Subscribe(store.SubjectAuthorize, func(m *nats.Msg) { _ = m.Respond(body) }); err != nil {
		b.Fatal(err)
	}
	if err := service.Flush(); err != nil {
		b.Fatal(err)
	}
	places, done, answers := make(chan struct{}, inFlight), make(chan struct{}), 0
	inbox := nats.NewInbox()
	if _, err := client.Subscribe(inbox+".*", func(*nats.Msg) {
		<-places
		if answers++; answers == b.N {
			close(done)
		}
	}); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for i := range b.N {
		places <- struct{}{}
		if err := client.PublishRequest(store.SubjectAuthorize, fmt.Sprintf("%s.%d", inbox, i), body); err != nil {
			b.Fatal(err)
		}
	}
	<-done
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}
