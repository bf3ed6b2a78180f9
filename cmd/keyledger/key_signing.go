package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/ledger"
	"github.com/keyledger/keyledger/ledger/client"
)

// pemPrivateKey is the kind of PEM block (RFC 7468, section 10) that a private half is
// kept in: PKCS #8, as OpenSSL and most languages' libraries read and write it.
const pemPrivateKey = "PRIVATE KEY"

// signingFlags say that a key signs.
type signingFlags struct {
	signing bool
	out     string
}

func (s *signingFlags) add(c *cobra.Command, body *ledger.CreateKey) {
	c.Flags().BoolVar(&s.signing, "signing", false, "make an ed25519 key pair and send the public half")
	c.Flags().StringVar(&s.out, "out", "", "`FILE` for the private half, which must not be there yet (mode 0600)")
	withDefault(c.Flags(), "out", "it is shown, once")
	c.Flags().StringVar(&body.PublicKey, "public-key", "", "`KEY`: the public half of a pair that was made elsewhere, 32 bytes in base64")
	exclusive(c, "signing", "public-key")
	exclusive(c, "out", "public-key")
}

// newPair is the private half of a pair that was made here.
type newPair struct {
	pem  []byte // empty: there is none
	path string // of the file it is in, "" for none
}

// pair makes a pair if one is wanted. Its private half is in the file before the ledger
// hears of the public one: whatever happens to the answer, it is not lost.
func (s *signingFlags) pair(body *ledger.CreateKey) (newPair, error) {
	if !s.signing {
		if s.out != "" {
			return newPair{}, usagef("--out is for the private half of --signing")
		}
		return newPair{}, nil
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return newPair{}, fmt.Errorf("make a key pair: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return newPair{}, fmt.Errorf("encode the private half: %w", err)
	}
	body.PublicKey = base64.StdEncoding.EncodeToString(public)
	p := newPair{pem: pem.EncodeToMemory(&pem.Block{Type: pemPrivateKey, Bytes: der}), path: s.out}
	if p.path == "" {
		return p, nil
	}
	return p, writeNewFile(p.path, p.pem)
}

// writeNewFile writes a file that must not be there yet, for its owner only.
func writeNewFile(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already and stays as it is; give --out another name", path)
	}
	if err != nil {
		return fmt.Errorf("write --out: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write --out: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}

// settle removes the file of a pair that the ledger refused. Where it is not known what
// happened, the file stays.
func (p *newPair) settle(err error) {
	var refused *events.Error
	if p.path != "" && errors.As(err, &refused) && refused.Code != events.OutcomeUnknown {
		_ = os.Remove(p.path) // the refusal is what matters
	}
}

// showCreated shows a key that was created: its secret, or if it signs the private half of
// a pair that was made here and is in no file.
func (a *app) showCreated(reply *client.Reply, pair newPair) error {
	shown := len(pair.pem) > 0 && pair.path == ""
	switch {
	case !shown:
		return a.showNewKey(reply)
	case a.json:
		text, err := events.Encode(string(pair.pem))
		if err != nil {
			return err
		}
		with := bytes.TrimSuffix(reply.Body, []byte("}"))
		reply.Body = append(append(append(bytes.Clone(with), `,"private_key":`...), text...), '}')
		return a.showNewKey(reply)
	}
	if err := a.showNewKey(reply); err != nil {
		return err
	}
	if _, err := a.out.Write(pair.pem); err != nil {
		return err
	}
	a.note("keep the private half now: it is shown only this once, and the ledger does not have it")
	return nil
}

// readPrivateKey reads an ed25519 key from a PEM file.
func readPrivateKey(path string) (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the signing key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != pemPrivateKey {
		return nil, fmt.Errorf("read the signing key: %s has no PEM block %q", path, pemPrivateKey)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	private, ok := key.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("read the signing key: %s holds no ed25519 key", path)
	}
	return private, nil
}
