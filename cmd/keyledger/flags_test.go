package main

import (
	"strings"
	"testing"
)

// TestFlagsTogether: what is wrong about flags is said in one way, and says what to do.
func TestFlagsTogether(t *testing.T) {
	for line, want := range map[string]string{
		"audit reprice":                                       "--plan FILE is missing",
		"account update acme":                                 "give --name, --metadata or --threshold",
		"account set-plan acme":                               "give --file or --name",
		"account set-plan acme --file x --name y":             "--file and --name: give one of them",
		"credits balance acme --at-position 0:1 --at-time 1h": "--at-position and --at-time: give one of them",
		"credits statement acme --csv --limit 50":             "--csv and --limit: give one of them",
		"credits statement acme --csv --json":                 "--csv and --json: give one of them",
		"audit reprice --plan - --csv --json":                 "--csv and --json: give one of them",
		"usage --plot --csv":                                  "--plot and --csv: give one of them",
		"authorize --key key_1":                               "--key needs --signing-key",
		"key import acme --name x --sha256 y --secret-stdin":  "--sha256 and --secret-stdin: give one of them",
	} {
		code, _, text := invoke(strings.Fields(line)...)
		if code != exitUsage || !strings.Contains(text, want) {
			t.Errorf("%s: exit code %d, %s", line, code, text)
		}
	}
	// One that is given as not given is not.
	if _, _, text := invoke("usage", "--plot=false", "--csv", "--server", "nats://127.0.0.1:1"); !strings.Contains(text, "connect to") {
		t.Errorf("--plot=false --csv: %s", text)
	}
}
