package object

import (
	"fmt"
	"math/rand"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
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

// typicalNode has the images that nodes list, which are most of it.
func typicalNode() *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "edge-node-17", UID: "0b6f7a3e-53a0-4d5a-9a53-1f5c8f9e1c11", ResourceVersion: "1234567", Labels: map[string]string{
			"topology.kubernetes.io/zone": "z2", "kubernetes.io/hostname": "edge-node-17", "kubernetes.io/arch": "arm64", "site": "store-17",
		}},
		Spec: corev1.NodeSpec{ProviderID: "edge://edge-node-17"},
	}
	n.Status.Addresses = []corev1.NodeAddress{{Type: "InternalIP", Address: "10.0.0.18"}, {Type: "Hostname", Address: "edge-node-17"}}
	n.Status.DaemonEndpoints.KubeletEndpoint.Port = 10250
	for _, kind := range []corev1.NodeConditionType{"MemoryPressure", "DiskPressure", "PIDPressure", "Ready"} {
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: kind, Status: "False", Reason: "KubeletHasSufficientMemory"})
	}
	for i := range 40 {
		n.Status.Images = append(n.Status.Images, corev1.ContainerImage{SizeBytes: 1e8, Names: []string{
			fmt.Sprintf("registry.local/edge/image-%d@sha256:%064x", i, i), fmt.Sprintf("registry.local/edge/image-%d:v1", i),
		}})
	}
	return n
}

// typicalSlice has 100 endpoints, as many as the controller puts into one.
func typicalSlice() *discoveryv1.EndpointSlice {
	name, port, protocol, ready := "metrics", int32(8080), corev1.ProtocolTCP, true
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: "app-417-x2x4z", Namespace: "team-17", UID: "0b6f7a3e-53a0-4d5a-9a53-1f5c8f9e1c11", ResourceVersion: "1234567", Labels: map[string]string{
			"app.kubernetes.io/name": "app-417", discoveryv1.LabelServiceName: "app-417", discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io",
		}},
		AddressType: "IPv4", Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
	}
	for i := range 100 {
		node := fmt.Sprint("edge-node-", i)
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprint("10.64.41.", i)}, NodeName: &node,
			Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready, Terminating: new(bool)},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: "team-17", Name: fmt.Sprintf("app-417-7d9c5b0a31-%05x", i), UID: "3f0f1c66-7a0e-4a35-9c9d-0d8ad2a6d7e2"},
		})
	}
	return s
}
