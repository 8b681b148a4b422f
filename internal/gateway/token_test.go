package gateway_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

const secret = "a secret of enough bytes"

type claims = jwt.MapClaims

// sign makes a token with any method, right or wrong.
func sign(t testing.TB, alg string, key any, c claims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.GetSigningMethod(alg), c).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// keyFile writes a public key as PEM and returns the name of the file and its content.
func keyFile(t testing.TB, key crypto.PublicKey) (name string, data []byte) {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return writeKey(t, "PUBLIC KEY", der)
}

func writeKey(t testing.TB, kind string, der []byte) (name string, data []byte) {
	t.Helper()
	data = pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	name = filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name, data
}

func newRSA(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newECDSA(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newEd25519(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
