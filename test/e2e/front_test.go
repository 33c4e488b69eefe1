package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// front stands between an agent and its receiver, does what receivers and the
// way to them do wrong, and keeps account of what comes twice.
type front struct {
	t       testing.TB
	message string
	addr    string
	central string      // address of the receiver
	tls     *tls.Config // nil: plain HTTP

	serving sync.WaitGroup // requests
	mu      sync.Mutex
	server  *http.Server              // nil: its port is closed
	mood    http.HandlerFunc          // nil: it is well, and passes everything on
	met     int                       // requests that a mood was shown
	active  map[*http.Request]int     // samples of requests that were passed on and have no answer yet
	newest  map[string]int64          // ms, by series
	seen    map[string]map[int64]bool // times, ms, by series
	account
}

// account is what a front knows of repetitions, in samples.
type account struct {
	unanswered int // passed on, and the agent does not know that they were taken
	repeated   int // passed on for a second time
	stale      int // of those, not their series' newest: Prometheus refuses them, as out of order
}

// ownAddr is an address for one server: no other, and no connection's own end,
// has its port in the time in which nothing listens there.
func ownAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", fmt.Sprintf("127.1.%d.%d:0", mathrand.IntN(256), 1+mathrand.IntN(254)))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func newFront(t testing.TB, central, message string, tls *tls.Config) *front {
	f := &front{
		t: t, message: message, addr: ownAddr(t), central: central, tls: tls,
		active: map[*http.Request]int{}, newest: map[string]int64{}, seen: map[string]map[int64]bool{},
	}
	f.open()
	t.Cleanup(func() {
		f.close()
		f.serving.Wait()
	})
	return f
}

// open listens on the front's address.
func (f *front) open() {
	ln, err := net.Listen("tcp", f.addr)
	if err != nil {
		f.t.Errorf("listen again: %v", err)
		return
	}
	if f.tls != nil {
		ln = tls.NewListener(ln, f.tls)
	}
	s := &http.Server{Handler: http.HandlerFunc(f.serve), ErrorLog: log.New(io.Discard, "", 0)}
	f.mu.Lock()
	f.server = s
	f.mu.Unlock()
	go s.Serve(ln)
}

// close refuses connections, and ends those that are open.
func (f *front) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for r, samples := range f.active { // whether their answers get out is open
		f.unanswered += samples
		delete(f.active, r)
	}
	if f.server != nil {
		f.server.Close()
		f.server = nil
	}
}

// feel sets how the next requests are answered; nil: passed on.
func (f *front) feel(mood http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mood = mood
}

// accounts is what it knows now, and how many requests a mood was shown.
func (f *front) accounts() (account, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.account, f.met
}

func (f *front) serve(w http.ResponseWriter, r *http.Request) {
	f.serving.Add(1)
	defer f.serving.Done()
	f.mu.Lock()
	mood := f.mood
	if mood != nil {
		f.met++
	}
	f.mu.Unlock()
	if mood == nil {
		mood = f.pass
	}
	mood(w, r)
}

// pass passes a request on, and the answer back.
func (f *front) pass(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the agent has gone
	}
	answer := f.forward(r, body)
	for k, v := range answer.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(answer.StatusCode)
	text, _ := io.ReadAll(answer.Body)
	_, err = w.Write(text)
	if err == nil {
		err = http.NewResponseController(w).Flush()
	}
	f.settled(r, err == nil && answer.StatusCode/100 == 2)
}

// swallow passes a request on, and cuts the connection without an answer.
func (f *front) swallow(_ http.ResponseWriter, r *http.Request) {
	if body, err := io.ReadAll(r.Body); err == nil {
		f.forward(r, body)
		f.settled(r, false)
	}
	panic(http.ErrAbortHandler)
}

// settled ends the account of a request: the agent knows that it was taken, or not.
func (f *front) settled(r *http.Request, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !known {
		f.unanswered += f.active[r]
	}
	delete(f.active, r)
}

// forward passes a request on and returns the receiver's answer.
func (f *front) forward(r *http.Request, body []byte) *http.Response {
	samples, err := f.samples(body)
	if err != nil {
		f.t.Errorf("a request cannot be read: %v", err)
	}
	f.mu.Lock()
	for s, times := range samples {
		if f.seen[s] == nil {
			f.seen[s] = map[int64]bool{}
		}
		for _, at := range times {
			f.active[r]++
			if f.seen[s][at] {
				f.repeated++
				if at < f.newest[s] {
					f.stale++
				}
			}
			f.seen[s][at] = true
			f.newest[s] = max(f.newest[s], at)
		}
	}
	f.mu.Unlock()

	// What is passed on arrives, though the agent may have gone meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+f.central+"/api/v1/write", bytes.NewReader(body))
	if err == nil {
		req.Header = r.Header.Clone()
		var resp *http.Response
		if resp, err = http.DefaultClient.Do(req); err == nil {
			defer resp.Body.Close()
			var text []byte
			if text, err = io.ReadAll(resp.Body); err == nil {
				resp.Body = io.NopCloser(bytes.NewReader(text))
				return resp
			}
		}
	}
	f.t.Errorf("the receiver does not answer: %v", err)
	return &http.Response{StatusCode: http.StatusBadGateway, Body: http.NoBody}
}

// samples reads a request: times, ms, by series.
func (f *front) samples(body []byte) (map[string][]int64, error) {
	raw, err := snappy.Decode(nil, body)
	if err != nil {
		return nil, err
	}
	times := map[string][]int64{}
	b := labels.NewScratchBuilder(0)
	if f.message == "prometheus.WriteRequest" {
		var m prompb.WriteRequest
		if err := m.Unmarshal(raw); err != nil {
			return nil, err
		}
		for _, ts := range m.Timeseries {
			s := ts.ToLabels(&b, nil).String()
			for _, p := range ts.Samples {
				times[s] = append(times[s], p.Timestamp)
			}
		}
		return times, nil
	}
	var m writev2.Request
	if err := m.Unmarshal(raw); err != nil {
		return nil, err
	}
	for _, ts := range m.Timeseries {
		ls, err := ts.ToLabels(&b, m.Symbols)
		if err != nil {
			return nil, err
		}
		for _, p := range ts.Samples {
			times[ls.String()] = append(times[ls.String()], p.Timestamp)
		}
	}
	return times, nil
}

// reset cuts a connection so that the other side is told of a reset.
func reset(t testing.TB, w http.ResponseWriter) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Errorf("take the connection over: %v", err)
		return
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		err = tcp.SetLinger(0)
	}
	if err = errors.Join(err, c.Close()); err != nil {
		t.Errorf("reset a connection: %v", err)
	}
}

// identity is a server's certificate that changes.
type identity struct {
	valid, expired tls.Certificate
	caFile         string

	mu  sync.Mutex
	now *tls.Certificate
}

// newIdentity makes an authority and two certificates of it, one of which has expired.
func newIdentity(t testing.TB, dir, name string) *identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	issue := func(c *x509.Certificate) []byte {
		der, err := x509.CreateCertificate(rand.Reader, c, authority, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	server := func(serial int64, until time.Time) tls.Certificate {
		return tls.Certificate{PrivateKey: key, Certificate: [][]byte{issue(&x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "receiver"}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until,
			DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})}}
	}
	i := &identity{
		valid: server(2, time.Now().Add(time.Hour)), expired: server(3, time.Now().Add(-time.Hour)), caFile: filepath.Join(dir, "ca.pem"),
	}
	i.now = &i.valid
	writeFile(t, i.caFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issue(authority)})))
	return i
}

// config is that of a server that shows the certificate of the moment.
func (i *identity) config() *tls.Config {
	return &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		i.mu.Lock()
		defer i.mu.Unlock()
		return i.now, nil
	}}
}

func (i *identity) show(c *tls.Certificate) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.now = c
}
