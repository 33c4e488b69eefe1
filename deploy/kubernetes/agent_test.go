package kubernetes_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/units"
	"github.com/prometheus/common/model"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// agentFlags returns the flags of the agent's container by name.
func agentFlags(t *testing.T, d *appsv1.Deployment) map[string]string {
	t.Helper()
	flags := map[string]string{}
	for _, arg := range d.Spec.Template.Spec.Containers[0].Args {
		name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		flags[name] = value
	}
	return flags
}

func agentDeployment(t *testing.T) *appsv1.Deployment {
	t.Helper()
	return find[*appsv1.Deployment](t, build(t, "base"), "prom-agent")
}

func TestOnlyOneAgentHasTheLog(t *testing.T) {
	d := agentDeployment(t)
	if d.Spec.Replicas == nil || *d.Spec.Replicas != 1 || d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType || d.Spec.Strategy.RollingUpdate != nil {
		t.Errorf("replicas %v, strategy %+v", d.Spec.Replicas, d.Spec.Strategy)
	}
	pvc := find[*corev1.PersistentVolumeClaim](t, build(t, "base"), "prom-agent-wal")
	if len(pvc.Spec.AccessModes) != 1 || pvc.Spec.AccessModes[0] != corev1.ReadWriteOnce {
		t.Errorf("access modes %v", pvc.Spec.AccessModes)
	}
	if sc := d.Spec.Template.Spec.SecurityContext; sc.FSGroup == nil || *sc.FSGroup != *sc.RunAsGroup {
		t.Errorf("the agent cannot write to the claim: fsGroup %v, group %v", sc.FSGroup, sc.RunAsGroup)
	}
}

// A log that outgrows its claim would fill the volume, or the node's disk.
func TestLogFitsItsClaim(t *testing.T) {
	pvc := find[*corev1.PersistentVolumeClaim](t, build(t, "base"), "prom-agent-wal")
	claim := pvc.Spec.Resources.Requests.Storage().Value()
	if claim != 10<<30 {
		t.Errorf("claim of %d bytes, want 10 GiB", claim)
	}
	flag := agentFlags(t, agentDeployment(t))["storage.agent.retention.max-size"]
	size, err := units.ParseBase2Bytes(flag)
	if err != nil {
		t.Fatal(err)
	}
	if got := float64(size) / float64(claim); got < 0.75 || got > 0.85 {
		t.Errorf("the log may take %.2f of the claim, want about 0.8", got)
	}
}

func TestPodWaitsForTheFlush(t *testing.T) {
	d := agentDeployment(t)
	flush, err := model.ParseDuration(agentFlags(t, d)["storage.remote.flush-deadline"])
	if err != nil {
		t.Fatal(err)
	}
	grace := time.Duration(*d.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second
	if grace < time.Duration(flush)+15*time.Second {
		t.Errorf("grace period %s for a flush of %s", grace, flush)
	}
}

func TestAgentFindsItsConfigAndItsLogInItsMounts(t *testing.T) {
	d := agentDeployment(t)
	flags := agentFlags(t, d)
	mounts := map[string]corev1.VolumeMount{}
	for _, m := range d.Spec.Template.Spec.Containers[0].VolumeMounts {
		mounts[m.Name] = m
	}
	if got, want := flags["config.file"], mounts["config"].MountPath+"/prometheus.yml"; got != want {
		t.Errorf("--config.file=%s, want %s", got, want)
	}
	if got, want := flags["storage.agent.path"], mounts["wal"].MountPath; got != want {
		t.Errorf("--storage.agent.path=%s, want %s", got, want)
	}
	for name, m := range mounts {
		if m.ReadOnly != (name != "wal") {
			t.Errorf("%s is mounted with readOnly %t", name, m.ReadOnly)
		}
	}
	if _, ok := flags["config.auto-reload"]; !ok {
		t.Error("a change of the ConfigMap would not be noticed")
	}
}

func TestAgentsProbes(t *testing.T) {
	c := agentDeployment(t).Spec.Template.Spec.Containers[0]
	if c.LivenessProbe == nil || c.LivenessProbe.HTTPGet.Path != "/-/healthy" {
		t.Errorf("liveness %+v", c.LivenessProbe)
	}
	if c.ReadinessProbe == nil || c.ReadinessProbe.HTTPGet.Path != "/-/ready" {
		t.Errorf("readiness %+v", c.ReadinessProbe)
	}
}

// The flags are those of the binary of this tree.
func TestAgentKnowsItsFlags(t *testing.T) {
	source := string(readFile(t, "../../cmd/prom-agent/flags.go"))
	for name := range agentFlags(t, agentDeployment(t)) {
		if !strings.Contains(source, `cmd.Flag("`+name+`",`) {
			t.Errorf("the agent has no flag --%s", name)
		}
	}
}

func TestImageHasTheTreesVersion(t *testing.T) {
	want := "prom-agent:" + strings.TrimSpace(string(readFile(t, "../../VERSION")))
	for _, w := range workloads(everything(t)) {
		for _, c := range w.pod.Spec.Containers {
			if strings.HasPrefix(c.Image, "prom-agent:") && c.Image != want {
				t.Errorf("%s runs %s, want %s", w.name, c.Image, want)
			}
		}
	}
}

// The user of the image is the user of the pod, so that a volume that the one
// has written is the other's, too.
func TestImageAndPodHaveOneUser(t *testing.T) {
	text := string(readFile(t, "../Dockerfile"))
	user := regexp.MustCompile(`(?m)^USER (\S+)$`).FindStringSubmatch(text)
	if user == nil || user[1] != "65532:65532" {
		t.Fatalf("the image's user is %q", user)
	}
	sc := agentDeployment(t).Spec.Template.Spec.SecurityContext
	if *sc.RunAsUser != 65532 || *sc.RunAsGroup != 65532 {
		t.Errorf("the pod's user is %d:%d", *sc.RunAsUser, *sc.RunAsGroup)
	}
}

// A policy sees the port of the pod that answers, not that of the service.
func TestAgentMayAskEveryDNS(t *testing.T) {
	policy := find[*networkingv1.NetworkPolicy](t, build(t, "base"), "prom-agent")
	for _, protocol := range []corev1.Protocol{corev1.ProtocolUDP, corev1.ProtocolTCP} {
		for _, port := range []int32{53, 5353} {
			if !slices.ContainsFunc(policy.Spec.Egress, func(r networkingv1.NetworkPolicyEgressRule) bool {
				return len(r.To) == 0 && slices.ContainsFunc(r.Ports, func(p networkingv1.NetworkPolicyPort) bool {
					return *p.Protocol == protocol && p.Port.IntVal == port
				})
			}) {
				t.Errorf("DNS at %s port %d is not allowed", protocol, port)
			}
		}
	}
}
