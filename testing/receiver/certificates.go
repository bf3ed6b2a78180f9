package receiver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"time"
)

// Authority issues certificates, good ones and others.
type Authority struct {
	// Pool is what a client trusts that trusts this authority.
	Pool *x509.CertPool

	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewAuthority makes an authority.
func NewAuthority() (*Authority, error) {
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "receiver authority"},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	made, key, err := issue(template, template, nil)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(made.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	return &Authority{Pool: pool, certificate: certificate, key: key}, nil
}

// Issue makes a certificate for a host, a name or an address, that holds for so long
// from a time on. The host must not be empty.
func (a *Authority) Issue(host string, from time.Time, holds time.Duration) (*tls.Config, error) {
	made, _, err := issue(leaf(host, from, holds), a.certificate, a.key)
	return &tls.Config{Certificates: []tls.Certificate{made}}, err
}

// SelfSigned makes a certificate for a host that nobody but itself stands for.
func SelfSigned(host string) (*tls.Config, error) {
	template := leaf(host, time.Now().Add(-time.Hour), 2*time.Hour)
	made, _, err := issue(template, template, nil)
	return &tls.Config{Certificates: []tls.Certificate{made}}, err
}

func leaf(host string, from time.Time, holds time.Duration) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host},
		NotBefore: from, NotAfter: from.Add(holds),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	return template
}

// issue makes a key and a certificate for it, signed by another key, or by itself.
func issue(template, parent *x509.Certificate, by *ecdsa.PrivateKey) (tls.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("issue a certificate: %w", err)
	}
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("issue a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, key, nil
}
