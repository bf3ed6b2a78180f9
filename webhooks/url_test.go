package webhooks

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCheckURL(t *testing.T) {
	long := "https://example.com/" + strings.Repeat("a", MaxURLBytes-len("https://example.com/"))
	label := strings.Repeat("a", 63)
	name253 := label + "." + label + "." + label + "." + strings.Repeat("a", 61)
	for _, tt := range []struct{ url, class string }{
		{"https://example.com", ""},
		{"https://example.com/hook?token=1", ""},
		{"HTTPS://Example.COM/hook", ""},
		{"https://example.com:443/", ""}, {"https://example.com:80/", ""}, {"https://example.com:1024/", ""}, {"https://example.com:65535/", ""},
		{"https://xn--bcher-kva.example/", ""}, {"https://my_host.example/", ""}, {"https://receiver/", ""}, {"https://3com.com/", ""}, {"https://1.2.3.com/", ""},
		{"https://0x.example/", ""},
		{"https://8.8.8.8/", ""}, {"https://1.1.1.1:8443/", ""}, {"https://[2606:4700:4700::1111]/", ""}, {"https://[2606:4700:4700::1111]:8443/", ""}, {"https://[::ffff:8.8.8.8]/", ""},
		{long, ""}, {"https://" + name253 + "/", ""},

		{long + "a", ClassURLLength},
		{"", ClassURL}, {"example.com", ClassURL}, {"/hook", ClassURL}, {"//example.com/hook", ClassURL}, {"https:example.com", ClassURL},
		{"https://exa mple.com/", ClassURL}, {"https://example.com/\x00", ClassURL}, {"https://example.com/\r\nX: y", ClassURL}, {"https://[::1/", ClassURL}, {"https://example.com:port/", ClassURL}, {" https://example.com/", ClassURL},
		{"http://example.com/", ClassScheme}, {"ftp://example.com/", ClassScheme}, {"file:///etc/passwd", ClassScheme}, {"gopher://example.com/", ClassScheme},
		{"https://user@example.com/", ClassUserinfo}, {"https://user:password@example.com/", ClassUserinfo}, {"https://@example.com/", ClassUserinfo}, {"https://example.com@127.0.0.1/", ClassUserinfo},
		{"https://example.com/#", ClassFragment}, {"https://example.com/#part", ClassFragment},
		{"https:///hook", ClassHost}, {"https://", ClassHost}, {"https://:443/", ClassHost},

		{"https://127.0.0.1/", ClassLoopback}, {"https://10.0.0.1/", ClassPrivate}, {"https://169.254.169.254/latest/meta-data/", ClassLinkLocal}, {"https://0.0.0.0/", ClassUnspecified},
		{"https://[::1]/", ClassLoopback}, {"https://[::]/", ClassUnspecified}, {"https://[::ffff:127.0.0.1]/", ClassLoopback}, {"https://[64:ff9b::a9fe:a9fe]/", ClassLinkLocal},
		{"https://[2002:7f00:1::1]/", ClassLoopback}, {"https://[fd00:ec2::254]/", ClassPrivate}, {"https://[fe80::1]/", ClassLinkLocal},
		{"https://[::ffff:7f00:1]/", ClassLoopback}, {"https://[::127.0.0.1]/", ClassLoopback}, {"https://[0:0:0:0:0:0:0:1]/", ClassLoopback}, {"https://[0000::0001]/", ClassLoopback},
		{"https://[0:0:0:0:0:ffff:a9fe:a9fe]/", ClassLinkLocal}, {"https://[::ffff:0:169.254.169.254]/", ClassLinkLocal}, {"https://[2001:0:7f00:1::]/", ClassLoopback}, {"https://[64:ff9b:1::10.0.0.1]/", ClassPrivate},
		{"https://[2606:4700::5efe:10.0.0.1]/", ClassPrivate}, {"https://[fec0::1]/", ClassPrivate}, {"https://[ff02::1]/", ClassMulticast}, {"https://255.255.255.255/", ClassBroadcast}, {"https://100.64.0.1/", ClassShared},
		{"https://[127.0.0.1]/", ClassURL}, {"https://[1::1::1]/", ClassURL}, {"https://[::ffff:127.1]/", ClassURL}, {"https://::1/", ClassURL}, {"https://[]/", ClassURL}, {"https://[v1.a]/", ClassURL},
		{"https://[::1%25lo]/", ClassZone}, {"https://[fe80::1%25eth0]/", ClassZone}, {"https://[2606:4700::1%25eth0]/", ClassZone},

		{"https://2130706433/", ClassHost}, {"https://0x7f.1/", ClassHost}, {"https://0x7f000001/", ClassHost}, {"https://0X7F000001/", ClassHost}, {"https://0177.0.0.1/", ClassHost}, {"https://127.1/", ClassHost},
		{"https://0/", ClassHost}, {"https://0x0/", ClassHost}, {"https://017700000001/", ClassHost}, {"https://127.0.1/", ClassHost}, {"https://127.0x0.0.1/", ClassHost}, {"https://00000127.0.0.1/", ClassHost}, {"https://4294967297/", ClassHost},
		{"https://127.0.0.1\\@example.com/", ClassURL}, {"https://example.com\\@127.0.0.1/", ClassURL}, {"https://127.0.0.1%00.example.com/", ClassURL}, {"https:\\\\127.0.0.1/", ClassURL}, {"https://exam\tple.com/", ClassURL}, {"https:/127.0.0.1/", ClassHost},
		{"https://127.0.0.01/", ClassHost}, {"https://1.2.3.4.5/", ClassHost}, {"https://256.1.1.1/", ClassHost}, {"https://example.0x7f/", ClassHost}, {"https://example.1/", ClassHost}, {"https://0x/", ClassHost},
		{"https://localhost/", ClassHost}, {"https://LOCALHOST/", ClassHost}, {"https://localhost./", ClassHost}, {"https://api.localhost/", ClassHost},
		{"https://127.0.0.1./", ClassHost}, {"https://example.com./", ClassHost}, {"https://.example.com/", ClassHost}, {"https://example..com/", ClassHost}, {"https://./", ClassHost},
		{"https://127。0。0。1/", ClassHost}, {"https://①②⑦.0.0.1/", ClassHost}, {"https://bücher.example/", ClassHost}, {"https://exam%70le.com/", ClassURL}, {"https://127%2e0.0.1/", ClassURL}, {"https://%E3%80%82/", ClassHost},
		{"https://a" + name253 + "/", ClassHost}, {"https://" + label + "a.example/", ClassHost}, {"https://a,b.example/", ClassHost},

		{"https://example.com:/", ClassPort}, {"https://example.com:0/", ClassPort}, {"https://example.com:22/", ClassPort}, {"https://example.com:1023/", ClassPort},
		{"https://example.com:65536/", ClassPort}, {"https://example.com:65979/", ClassPort}, {"https://example.com:00443/", ClassPort}, {"https://8.8.8.8:25/", ClassPort},
	} {
		u, err := newGuard(t).CheckURL(tt.url, false)
		wantClass(t, tt.url, err, tt.class)
		if (u == nil) != (tt.class != "") {
			t.Errorf("%s: URL %v with error %v", tt.url, u, err)
		}
	}
}

func TestCheckURLAllowances(t *testing.T) {
	g := newGuard(t, "127.0.0.0/8")
	for _, tt := range []struct {
		url       string
		allowHTTP bool
		class     string
	}{
		{"http://example.com/", true, ""},
		{"http://example.com/", false, ClassScheme},
		{"https://example.com/", true, ""},
		{"ftp://example.com/", true, ClassScheme},
		{"http://127.0.0.1:8080/", true, ""},
		{"https://127.255.255.255/", false, ""},
		{"http://128.0.0.1:8080/", true, ""},
		{"http://10.0.0.1:8080/", true, ClassPrivate},
		{"http://127.0.0.1:22/", true, ClassPort},
		{"http://127.1:8080/", true, ClassHost},
		{"http://2130706433:8080/", true, ClassHost},
		{"http://0x7f.1/", true, ClassHost},
		{"http://[::1%25lo]/", true, ClassZone},
		{"http://localhost:8080/", true, ClassHost},
		{"http://localhost./", true, ClassHost},
	} {
		_, err := g.CheckURL(tt.url, tt.allowHTTP)
		wantClass(t, tt.url, err, tt.class)
	}
}

// Whatever the text: no panic, a typed error or a URL that passes again.
func TestCheckURLHoldsForAnyText(t *testing.T) {
	g := newGuard(t)
	rapid.Check(t, func(rt *rapid.T) {
		host := rapid.OneOf(rapid.String(), rapid.StringMatching(`[0-9a-fx.:%\[\]@#]{0,24}`)).Draw(rt, "host")
		raw := "https://" + host + rapid.SampledFrom([]string{"", "/", "/x?y", ":443/"}).Draw(rt, "rest")
		u, err := g.CheckURL(raw, false)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "address refused: ") || (len(host) > 12 && strings.Contains(err.Error(), host)) {
				rt.Fatalf("error %q for %q", err, raw)
			}
			return
		}
		if _, err := g.CheckURL(u.String(), false); err != nil {
			rt.Fatalf("%q passes, but not as %q: %v", raw, u, err)
		}
	})
}
