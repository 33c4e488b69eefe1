package object

import (
	"fmt"
	"math/rand"
	"runtime"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// typicalPod is a running pod of a Deployment with a sidecar: most of its
// about 9 KB are environment, probes and volumes.
func typicalPod() *corev1.Pod {
	r := rand.New(rand.NewSource(1))
	now := metav1.NewTime(time.Unix(1_790_000_000, 0))
	yes, grace := true, int64(30)
	probe := &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}},
		PeriodSeconds: 10, TimeoutSeconds: 1, FailureThreshold: 3, SuccessThreshold: 1,
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "app-417-7d9c5b0a31-00a31", Namespace: "team-17", GenerateName: "app-417-7d9c5b0a31-",
			UID: "0b6f7a3e-53a0-4d5a-9a53-1f5c8f9e1c11", ResourceVersion: "1234567", CreationTimestamp: now,
			Labels: map[string]string{
				"app.kubernetes.io/name": "app-417", "app.kubernetes.io/instance": "main", "pod-template-hash": "7d9c5b0a31",
				"team": "team-17", "version": "v3",
			},
			Annotations: map[string]string{
				"prometheus.io/scrape": "true", "prometheus.io/port": "8080", "prometheus.io/path": "/metrics",
				"checksum/config":                   fmt.Sprintf("%016x%016x%016x%016x", r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64()),
				"kubectl.kubernetes.io/restartedAt": "2026-11-01T10:00:00Z",
			},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "app-417-7d9c5b0a31",
				UID: types.UID("3f0f1c66-7a0e-4a35-9c9d-0d8ad2a6d7e2"), Controller: &yes, BlockOwnerDeletion: &yes,
			}},
		},
		Spec: corev1.PodSpec{
			NodeName: "edge-node-17", ServiceAccountName: "default", TerminationGracePeriodSeconds: &grace,
			Volumes: []corev1.Volume{
				{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "app-417"}}}},
				{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			},
			Tolerations: []corev1.Toleration{{Key: "edge", Operator: "Exists", Effect: "NoSchedule"}},
		},
		Status: corev1.PodStatus{
			Phase: "Running", PodIP: "10.64.41.18", PodIPs: []corev1.PodIP{{IP: "10.64.41.18"}}, HostIP: "10.0.0.7",
			StartTime: &now, QOSClass: "Burstable",
		},
	}
	for _, kind := range []corev1.PodConditionType{"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: kind, Status: "True", LastTransitionTime: now})
	}
	for _, c := range []struct {
		name      string
		port      int32
		variables int
	}{{"app", 8080, 24}, {"sidecar", 9090, 10}} {
		container := corev1.Container{
			Name: c.name, Image: fmt.Sprintf("registry.local/edge/%s:%x", c.name, r.Int31()),
			Command: []string{"/bin/" + c.name, "--config=/etc/" + c.name + "/config.yaml", "--log.level=info"},
			Ports:   []corev1.ContainerPort{{Name: fmt.Sprint("p", c.port), ContainerPort: c.port, Protocol: "TCP"}},
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("128Mi")},
				Limits:   corev1.ResourceList{"memory": resource.MustParse("256Mi")},
			},
			LivenessProbe: probe, ReadinessProbe: probe,
			VolumeMounts: []corev1.VolumeMount{{Name: "config", MountPath: "/etc/" + c.name}, {Name: "data", MountPath: "/data"}},
		}
		for i := range c.variables {
			container.Env = append(container.Env, corev1.EnvVar{
				Name:  fmt.Sprintf("SETTING_%d_%x", i, r.Int31()),
				Value: fmt.Sprintf("value-%x-%x-%x-%x-%x-%x-%x-%x", r.Int63(), r.Int63(), r.Int63(), r.Int63(), r.Int63(), r.Int63(), r.Int63(), r.Int63()),
			})
		}
		pod.Spec.Containers = append(pod.Spec.Containers, container)
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: c.name, Ready: true, Started: &yes, Image: container.Image,
			ImageID:     fmt.Sprintf("registry.local/edge/%s@sha256:%064x", c.name, r.Uint64()),
			ContainerID: fmt.Sprintf("containerd://%064x", r.Uint64()),
			State:       corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
	return pod
}

func BenchmarkDecodePod(b *testing.B) {
	raw, err := typicalPod().Marshal()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Decode(KindPod, raw); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()

	pods := make([]Object, 5000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range pods {
		pods[i], _, _ = Decode(KindPod, raw)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(len(pods)), "keptB/pod")
	b.ReportMetric(float64(len(raw)), "B/message")
	runtime.KeepAlive(pods)
}
