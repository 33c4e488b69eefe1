package object

import (
	"fmt"
	"math/rand"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/randfill"
)

// filled is an object with all fields at random: those that are kept and all
// others, with lists of 0 to 3 elements.
func filled(kind Kind, seed int64) library {
	o := newLibrary(kind)
	f := randfill.New().RandSource(rand.NewSource(seed)).NilChance(0.3).NumElements(0, 3).Funcs(
		func(s *string, c randfill.Continue) { *s = text(c) },
		func(s *corev1.PodConditionType, c randfill.Continue) {
			*s = []corev1.PodConditionType{corev1.PodReady, "Ready2", corev1.PodScheduled, ""}[c.Intn(4)]
		},
		func(s *corev1.ConditionStatus, c randfill.Continue) {
			*s = []corev1.ConditionStatus{"True", "False", "Unknown", ""}[c.Intn(4)]
		},
		func(s *corev1.Protocol, c randfill.Continue) {
			*s = []corev1.Protocol{"TCP", "UDP", "SCTP", "QUIC", ""}[c.Intn(5)]
		},
		func(n *int32, c randfill.Continue) {
			*n = []int32{0, 1, 80, 8080, 65535, -1, -1 << 31, 1<<31 - 1}[c.Intn(8)]
		},
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewQuantity(c.Int63n(1000), resource.DecimalSI)
		},
		func(f *metav1.FieldsV1, _ randfill.Continue) { *f = *metav1.NewFieldsV1(`{"f:spec":{"f:x":{}}}`) },
		func(t *metav1.Time, c randfill.Continue) { *t = metav1.Unix(c.Int63n(1<<31), 0) },
		func(r *corev1.ObjectReference, c randfill.Continue) {
			c.FillNoCustom(r)
			if c.Bool() {
				r.Namespace = "shop"
			}
		},
		func(m *metav1.ObjectMeta, c randfill.Continue) {
			c.FillNoCustom(m)
			if c.Bool() {
				m.Namespace = "shop"
			}
		},
		func(p *corev1.Pod, c randfill.Continue) {
			c.FillNoCustom(p)
			rename(p.Spec.Containers, p.Status.ContainerStatuses, c)
			rename(p.Spec.InitContainers, p.Status.InitContainerStatuses, c)
		},
	)
	f.Fill(o)
	return o
}

// text is well known, short, long, empty or no UTF-8.
func text(c randfill.Continue) string {
	switch c.Intn(8) {
	case 0:
		return ""
	case 1:
		return []string{"TCP", "Pod", "Node", "ReplicaSet", "IPv4", "app.kubernetes.io/name", "prometheus.io/scrape", "shop"}[c.Intn(8)]
	case 2:
		b := make([]byte, c.Intn(400))
		c.Read(b)
		return string(b)
	case 3:
		return fmt.Sprintf("%0*d", 100+c.Intn(100), c.Int63())
	}
	return fmt.Sprintf("%x", c.Uint32())
}

// rename gives statuses the names of containers, in any order, some more than
// once, some of none.
func rename(containers []corev1.Container, statuses []corev1.ContainerStatus, c randfill.Continue) {
	for i := range statuses {
		if n := c.Intn(len(containers) + 1); n < len(containers) {
			statuses[i].Name = containers[n].Name
		}
	}
}
