package server

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Wherever a change stops, the next start finds the credentials before or after it, and the
// next change goes through.
func TestCredentialsStoppedAnywhere(t *testing.T) {
	newOne := func(name string) *Credential {
		_, public := newUser(t)
		return &Credential{Name: name, Role: RoleReader, PublicKey: public, Inbox: "abcdefghijklmnopqrstuvwxy" + name, CreatedAt: 1}
	}
	a, b := newOne("a"), newOne("b")
	made := openTestDir(t, t.TempDir())
	text := func(list ...*Credential) string {
		if err := made.writeCredentials(list); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(made.credentialsPath())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before, after := text(a), text(a, b)
	for name, row := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"before the first":          {nil, nil},
		"the first, not renamed":    {map[string]string{".tmp": before}, nil},
		"with nothing written":      {map[string]string{"": before, ".tmp": ""}, []string{"a"}},
		"with a part written":       {map[string]string{"": before, ".tmp": after[:len(after)/2]}, []string{"a"}},
		"with all of it written":    {map[string]string{"": before, ".tmp": after}, []string{"a"}},
		"renamed":                   {map[string]string{"": after}, []string{"a", "b"}},
		"renamed, the next a part":  {map[string]string{"": after, ".tmp": before[:7]}, []string{"a", "b"}},
		"revoked, not yet renamed":  {map[string]string{"": after, ".tmp": before}, []string{"a", "b"}},
		"revoked and renamed again": {map[string]string{"": before}, []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for suffix, text := range row.files {
				put(t, filepath.Join(dir, fileCredentials+suffix), text, modeSecret)
			}
			d := openTestDir(t, dir)
			list, err := d.credentials()
			if err != nil {
				t.Fatal(err)
			}
			found := map[string]*Credential{}
			for _, c := range list {
				found[c.Name] = c
			}
			if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, row.want) {
				t.Errorf("found %v, want %v", got, row.want)
			}
			if err := d.writeCredentials([]*Credential{b}); err != nil {
				t.Fatal(err)
			}
			if list, err = d.credentials(); err != nil || len(list) != 1 || *list[0] != *b {
				t.Errorf("after the next change: %v, %v", list, err)
			}
			if _, err := os.Stat(d.credentialsPath() + ".tmp"); !os.IsNotExist(err) {
				t.Errorf("the temporary file: %v", err)
			}
		})
	}
}
