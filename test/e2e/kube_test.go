package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// kubeBinaries is the folder of kube-apiserver, etcd and kubectl.
var kubeBinaries = os.Getenv("KUBE")

// cluster is a Kubernetes API server and its etcd on loopback, without
// controllers, scheduler and kubelets: what is in it is what the test puts
// there. Pods have addresses of 10.42.0.0/16, where a test may serve.
type cluster struct {
	t       testing.TB
	dir     string
	addr    string // of the API server
	etcd    string // its address
	server  *process
	admin   string // kubeconfig of an administrator
	client  *kubernetes.Clientset
	answers *http.Client // knows the API server's certificate
}

// startCluster runs an API server that has the given namespaces. It needs the
// network namespace that test/netns makes.
func startCluster(t testing.TB, namespaces ...string) *cluster {
	t.Helper()
	if kubeBinaries == "" {
		t.Fatal("KUBE names no folder; run `make e2e`")
	}
	if ln, err := net.Listen("tcp", "10.42.255.254:0"); err != nil {
		t.Fatalf("no pod addresses: %v; run `make e2e`, or the test under test/netns", err)
	} else {
		ln.Close()
	}
	c := &cluster{t: t, dir: t.TempDir(), addr: freeAddr(t), etcd: freeAddr(t)}
	c.makeCredentials()
	peer := "http://" + freeAddr(t)
	start(t, "etcd", c.etcd, "/health", filepath.Join(kubeBinaries, "etcd"),
		"--name=e2e", "--data-dir="+filepath.Join(c.dir, "etcd"),
		"--listen-client-urls=http://"+c.etcd, "--advertise-client-urls=http://"+c.etcd,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=e2e="+peer,
		"--unsafe-no-fsync", "--log-level=warn")
	c.startServer()
	cfg, err := clientcmd.BuildConfigFromFlags("", c.admin)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS = -1
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	cfg.WarningHandler = rest.NoWarnings{} // of each Endpoints object
	if c.client, err = kubernetes.NewForConfig(cfg); err != nil {
		t.Fatal(err)
	}
	for _, ns := range namespaces {
		c.namespace(ns, nil)
	}
	return c
}

// startServer starts the API server over what etcd has and waits until it is ready.
func (c *cluster) startServer() {
	c.t.Helper()
	_, port, _ := net.SplitHostPort(c.addr)
	c.server = startUntil(c.t, "kube-apiserver", c.addr, func(*process) error {
		resp, err := c.answers.Get("https://" + c.addr + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz: %s", resp.Status)
		}
		return nil
	}, filepath.Join(kubeBinaries, "kube-apiserver"),
		"--etcd-servers=http://"+c.etcd,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port="+port,
		"--tls-cert-file="+c.file("server.crt"), "--tls-private-key-file="+c.file("server.key"),
		"--client-ca-file="+c.file("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+c.file("sa.pub"), "--service-account-signing-key-file="+c.file("sa.key"),
		"--service-cluster-ip-range=10.43.0.0/16", "--authorization-mode=RBAC",
		"--kubelet-client-certificate="+c.file("admin.crt"), "--kubelet-client-key="+c.file("admin.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none",
		"--shutdown-watch-termination-grace-period=0s")
}

// killServer ends the API server as a crash would; etcd keeps what it had.
func (c *cluster) killServer() {
	c.t.Helper()
	c.server.end(syscall.SIGKILL)
}

func (c *cluster) file(name string) string { return filepath.Join(c.dir, name) }

// makeCredentials writes the certificate authority, the server's and the
// administrator's certificates, the key that signs tokens, and admin.kubeconfig.
func (c *cluster) makeCredentials() {
	c.t.Helper()
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			c.t.Fatal(err)
		}
		return key
	}
	write := func(name, kind string, der []byte, err error) {
		if err != nil {
			c.t.Fatalf("make %s: %v", name, err)
		}
		writeFile(c.t, c.file(name), string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	}
	caKey := newKey()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "e2e"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	write("ca.crt", "CERTIFICATE", der, err)
	issue := func(name string, leaf *x509.Certificate) {
		key := newKey()
		leaf.NotBefore, leaf.NotAfter, leaf.KeyUsage = ca.NotBefore, ca.NotAfter, x509.KeyUsageDigitalSignature
		der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
		write(name+".crt", "CERTIFICATE", der, err)
		der, err = x509.MarshalPKCS8PrivateKey(key)
		write(name+".key", "PRIVATE KEY", der, err)
	}
	issue("server", &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "kube-apiserver"},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	issue("admin", &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	sa, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		c.t.Fatal(err)
	}
	der, err = x509.MarshalPKCS8PrivateKey(sa)
	write("sa.key", "PRIVATE KEY", der, err)
	der, err = x509.MarshalPKIXPublicKey(sa.Public())
	write("sa.pub", "PUBLIC KEY", der, err)
	issue("others", &x509.Certificate{
		SerialNumber: big.NewInt(4), Subject: pkix.Name{CommonName: "others"}, DNSNames: []string{"metrics.example.com"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})

	c.admin = c.kubeconfig("admin", fmt.Sprintf("client-certificate: %s\n    client-key: %s", c.file("admin.crt"), c.file("admin.key")))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.read("ca.crt"))
	c.answers = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
}

func (c *cluster) read(name string) []byte {
	c.t.Helper()
	b, err := os.ReadFile(c.file(name))
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

// kubeconfig writes NAME.kubeconfig for a user with the given credentials and is its path.
func (c *cluster) kubeconfig(name, credentials string) string {
	c.t.Helper()
	path := c.file(name + ".kubeconfig")
	writeFile(c.t, path, fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: e2e
  cluster:
    server: https://%s
    certificate-authority-data: %s
users:
- name: %s
  user:
    %s
contexts:
- name: e2e
  context: {cluster: e2e, user: %s}
current-context: e2e
`, c.addr, base64.StdEncoding.EncodeToString(c.read("ca.crt")), name, credentials, name))
	return path
}

// token asks for a token of a ServiceAccount, as the kubelet does for a pod,
// and writes it to a file, whose path it is.
func (c *cluster) token(namespace, account string) string {
	c.t.Helper()
	seconds := int64(3600)
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	got, err := c.client.CoreV1().ServiceAccounts(namespace).CreateToken(context.Background(), account, req, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatalf("request a token of %s/%s: %v", namespace, account, err)
	}
	path := c.file(namespace + "-" + account + ".token")
	if err := os.WriteFile(path, []byte(got.Status.Token), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// accountKubeconfig is the path of a kubeconfig that acts as a ServiceAccount.
func (c *cluster) accountKubeconfig(namespace, account string) string {
	c.t.Helper()
	return c.kubeconfig(namespace+"-"+account, "tokenFile: "+c.token(namespace, account))
}

// inCluster makes the processes that the test starts from now on find the API
// server and an account's token as they would in a pod of the given namespace.
func (c *cluster) inCluster(namespace, token string) {
	c.t.Helper()
	dir := "/var/run/secrets/kubernetes.io/serviceaccount"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { os.RemoveAll(dir) })
	b, err := os.ReadFile(token)
	if err != nil {
		c.t.Fatal(err)
	}
	for name, text := range map[string]string{"token": string(b), "ca.crt": string(c.read("ca.crt")), "namespace": namespace} {
		writeFile(c.t, filepath.Join(dir, name), text)
	}
	host, port, _ := net.SplitHostPort(c.addr)
	for name, value := range map[string]string{"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port} {
		os.Setenv(name, value)
		c.t.Cleanup(func() { os.Unsetenv(name) })
	}
}

// kubectl runs kubectl as the administrator, with stdin, and is what it printed.
func (c *cluster) kubectl(stdin string, args ...string) string {
	c.t.Helper()
	out, err := c.tryKubectl(stdin, args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

func (c *cluster) tryKubectl(stdin string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(kubeBinaries, "kubectl"), append([]string{"--kubeconfig=" + c.admin, "--cache-dir=" + c.file("cache")}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("run kubectl %q: %w\n%s", args, err, out)
	}
	return string(out), err
}

// apply applies manifests of YAML.
func (c *cluster) apply(manifests string) {
	c.t.Helper()
	c.kubectl(manifests, "apply", "-f", "-")
}

// applyFolder applies a kustomization.
func (c *cluster) applyFolder(path string) {
	c.t.Helper()
	c.kubectl("", "apply", "-k", path)
}
