package e2e

import (
	"context"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// What the other tests lean on: a server that keeps objects with their status
// over a crash, and accounts that may do what RBAC says and nothing else.
func TestKubernetesAPIServerAnswers(t *testing.T) {
	c := startCluster(t, "shop")
	n := node("edge-1", "10.42.255.1", map[string]string{"site": "one"})
	pod := runningPod("shop", "web-1", n.Name, "10.42.0.5", 8080)
	service := headless("shop", "web", 8080)
	c.put(n, pod, service, endpointsOf(service, pod), sliceOf(service, pod), ingress("shop", "web", "shop.example", "/"))
	c.apply(`
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: shop}
rules: [{apiGroups: [""], resources: [pods], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: shop}]
`)
	cfg, err := clientcmd.BuildConfigFromFlags("", c.accountKubeconfig("shop", "reader"))
	if err != nil {
		t.Fatal(err)
	}
	reader, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	check := func() {
		t.Helper()
		pods, err := reader.CoreV1().Pods("shop").List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(pods.Items) != 1 || pods.Items[0].Status.PodIP != "10.42.0.5" || pods.Items[0].Spec.NodeName != "edge-1" {
			t.Errorf("pods are %v, want web-1 on edge-1 with its address", pods.Items)
		}
		if _, err := reader.CoreV1().Nodes().List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("list nodes: %v, want it forbidden", err)
		}
	}
	check()
	c.killServer()
	c.startServer()
	check()
	if out := c.kubectl("", "get", "endpoints,endpointslices,ingresses", "-n", "shop", "-o", "name"); strings.Count(out, "/web\n") != 3 {
		t.Errorf("kubectl sees %q", out)
	}
	c.remove(pod)
	if pods, err := reader.CoreV1().Pods("shop").List(ctx, metav1.ListOptions{}); err != nil || len(pods.Items) != 0 {
		t.Errorf("a deleted pod is %v, %v", pods, err)
	}
}
