package kubernetes_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const namespace = "monitoring"

// kustomization is what these folders use of kustomize's format.
type kustomization struct {
	metav1.TypeMeta `json:",inline"`
	Resources       []string `json:"resources"`
	Components      []string `json:"components"`
	Images          []struct {
		Name   string `json:"name"`
		NewTag string `json:"newTag"`
	} `json:"images"`
	ConfigMapGenerator []struct {
		Name      string   `json:"name"`
		Namespace string   `json:"namespace"`
		Behavior  string   `json:"behavior"`
		Files     []string `json:"files"`
		Options   struct {
			DisableNameSuffixHash bool              `json:"disableNameSuffixHash"`
			Labels                map[string]string `json:"labels"`
		} `json:"options"`
	} `json:"configMapGenerator"`
}

// object is one document of a manifest.
type object struct {
	file string
	metav1.Object
	value any // pointer to the type of k8s.io/api
}

// kinds are those that may occur, by apiVersion and kind.
var kinds = map[string]func() metav1.Object{
	"v1/Namespace":                                    func() metav1.Object { return &corev1.Namespace{} },
	"v1/ServiceAccount":                               func() metav1.Object { return &corev1.ServiceAccount{} },
	"v1/Service":                                      func() metav1.Object { return &corev1.Service{} },
	"v1/PersistentVolumeClaim":                        func() metav1.Object { return &corev1.PersistentVolumeClaim{} },
	"apps/v1/Deployment":                              func() metav1.Object { return &appsv1.Deployment{} },
	"apps/v1/DaemonSet":                               func() metav1.Object { return &appsv1.DaemonSet{} },
	"rbac.authorization.k8s.io/v1/ClusterRole":        func() metav1.Object { return &rbacv1.ClusterRole{} },
	"rbac.authorization.k8s.io/v1/ClusterRoleBinding": func() metav1.Object { return &rbacv1.ClusterRoleBinding{} },
	"networking.k8s.io/v1/NetworkPolicy":              func() metav1.Object { return &networkingv1.NetworkPolicy{} },
}

// strict decodes one YAML document; unknown and doubled fields fail the test.
func strict(t *testing.T, file string, text []byte, v any) {
	t.Helper()
	if err := yaml.UnmarshalStrict(text, v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func readKustomization(t *testing.T, dir string) kustomization {
	t.Helper()
	var k kustomization
	file := filepath.Join(dir, "kustomization.yaml")
	strict(t, file, readFile(t, file), &k)
	return k
}

// readObjects decodes the documents of a manifest.
func readObjects(t *testing.T, file string) []object {
	t.Helper()
	var all []object
	for _, text := range bytes.Split(readFile(t, file), []byte("\n---\n")) {
		var meta metav1.TypeMeta
		if err := yaml.Unmarshal(text, &meta); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		newObject, ok := kinds[meta.APIVersion+"/"+meta.Kind]
		if !ok {
			t.Fatalf("%s: unknown kind %s %s", file, meta.APIVersion, meta.Kind)
		}
		o := newObject()
		strict(t, file, text, o)
		all = append(all, object{file, o, o})
	}
	return all
}

// build follows a kustomization to all objects that it names, patched by nothing.
func build(t *testing.T, dir string) []object {
	t.Helper()
	var all []object
	k := readKustomization(t, dir)
	for _, name := range slices.Concat(k.Resources, k.Components) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err != nil {
			t.Fatalf("%s/kustomization.yaml: %v", dir, err)
		} else if info.IsDir() {
			all = append(all, build(t, path)...)
		} else {
			all = append(all, readObjects(t, path)...)
		}
	}
	return all
}

// everything is the base with the component and what the local overlay adds.
func everything(t *testing.T) []object { return build(t, "overlays/local") }

// find returns the only object of type T with a name.
func find[T metav1.Object](t *testing.T, all []object, name string) T {
	t.Helper()
	var found []T
	for _, o := range all {
		if v, ok := o.value.(T); ok && o.GetName() == name {
			found = append(found, v)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects %T are named %s, want one", len(found), *new(T), name)
	}
	return found[0]
}

// workload is what makes pods.
type workload struct {
	name     string
	selector *metav1.LabelSelector
	pod      corev1.PodTemplateSpec
}

func workloads(all []object) []workload {
	var ws []workload
	for _, o := range all {
		switch v := o.value.(type) {
		case *appsv1.Deployment:
			ws = append(ws, workload{v.Name, v.Spec.Selector, v.Spec.Template})
		case *appsv1.DaemonSet:
			ws = append(ws, workload{v.Name, v.Spec.Selector, v.Spec.Template})
		}
	}
	return ws
}

func TestEveryFileIsNamedByItsKustomization(t *testing.T) {
	named := map[string]bool{}
	for _, dir := range []string{".", "base", "components/kube-state-metrics", "overlays/edge", "overlays/local"} {
		k := readKustomization(t, dir)
		named[filepath.Join(dir, "kustomization.yaml")] = true
		for _, name := range slices.Concat(k.Resources, k.Components) {
			named[filepath.Join(dir, name)] = true
		}
		for _, g := range k.ConfigMapGenerator {
			for _, name := range g.Files {
				named[filepath.Join(dir, name)] = true
				if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
					t.Errorf("%s/kustomization.yaml: %v", dir, err)
				}
			}
		}
	}
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if ext := filepath.Ext(path); err == nil && (ext == ".yaml" || ext == ".yml") && !named[path] {
			t.Errorf("no kustomization names %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestKustomizationsHaveTheRightKind(t *testing.T) {
	for dir, want := range map[string]string{
		".": "Kustomization", "base": "Kustomization", "overlays/edge": "Kustomization", "overlays/local": "Kustomization",
		"components/kube-state-metrics": "Component",
	} {
		if got := readKustomization(t, dir).Kind; got != want {
			t.Errorf("%s has kind %s, want %s", dir, got, want)
		}
	}
}

func TestConfigMapKeepsItsName(t *testing.T) {
	for dir, behavior := range map[string]string{"base": "", "overlays/edge": "merge", "overlays/local": "merge"} {
		g := readKustomization(t, dir).ConfigMapGenerator
		if len(g) != 1 {
			t.Fatalf("%s generates %d ConfigMaps, want 1", dir, len(g))
		}
		if g[0].Name != "prom-agent-config" || g[0].Namespace != namespace || g[0].Behavior != behavior || !slices.Equal(g[0].Files, []string{"prometheus.yml"}) {
			t.Errorf("%s: got %+v", dir, g[0])
		}
		if dir == "base" && !g[0].Options.DisableNameSuffixHash {
			t.Error("the ConfigMap's name would get a hash, and a change of it a new pod")
		}
	}
}

func TestEveryObjectIsThereOnceAndInItsNamespace(t *testing.T) {
	seen := map[string]string{}
	for _, o := range everything(t) {
		id := fmt.Sprintf("%T %s", o.value, o.GetName())
		if other, twice := seen[id]; twice {
			t.Errorf("%s is in %s and in %s", id, other, o.file)
		}
		seen[id] = o.file
		want := namespace
		switch o.value.(type) {
		case *corev1.Namespace, *rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding:
			want = ""
		}
		if o.GetNamespace() != want {
			t.Errorf("%s: %s is in namespace %q, want %q", o.file, id, o.GetNamespace(), want)
		}
	}
	for _, id := range []string{
		"*v1.Namespace monitoring", "*v1.ServiceAccount prom-agent", "*v1.ClusterRole prom-agent", "*v1.ClusterRoleBinding prom-agent",
		"*v1.PersistentVolumeClaim prom-agent-wal", "*v1.Deployment prom-agent", "*v1.Service prom-agent", "*v1.NetworkPolicy prom-agent",
		"*v1.DaemonSet node-exporter", "*v1.ServiceAccount node-exporter", "*v1.Service node-exporter",
	} {
		if file := seen[id]; !strings.HasPrefix(file, "base/") {
			t.Errorf("%s is in %q, want it in the base", id, file)
		}
	}
}

func TestBindingsNameRolesAndAccountsThatAreThere(t *testing.T) {
	all := everything(t)
	bound := map[string]bool{}
	for _, o := range all {
		b, ok := o.value.(*rbacv1.ClusterRoleBinding)
		if !ok {
			continue
		}
		if b.RoleRef.Kind != "ClusterRole" || b.RoleRef.APIGroup != rbacv1.GroupName {
			t.Errorf("%s: role %+v", b.Name, b.RoleRef)
		}
		find[*rbacv1.ClusterRole](t, all, b.RoleRef.Name)
		bound[b.RoleRef.Name] = true
		for _, s := range b.Subjects {
			if s.Kind != "ServiceAccount" || s.Namespace != namespace {
				t.Errorf("%s: subject %+v", b.Name, s)
			}
			find[*corev1.ServiceAccount](t, all, s.Name)
		}
	}
	for _, o := range all {
		if r, ok := o.value.(*rbacv1.ClusterRole); ok && !bound[r.Name] {
			t.Errorf("nobody has the role %s", r.Name)
		}
	}
}

// hasPort says whether a container of the pod names a port so.
func hasPort(pod corev1.PodTemplateSpec, name string) bool {
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == name {
				return true
			}
		}
	}
	return false
}

func TestSelectorsAndPortsFitThePods(t *testing.T) {
	all := everything(t)
	ws := workloads(all)
	// selected returns the only workload whose pods have these labels.
	selected := func(by string, labels map[string]string) corev1.PodTemplateSpec {
		var found []workload
		for _, w := range ws {
			fits := len(labels) > 0
			for k, v := range labels {
				fits = fits && w.pod.Labels[k] == v
			}
			if fits {
				found = append(found, w)
			}
		}
		if len(found) != 1 {
			t.Fatalf("%s selects the pods of %d workloads, want one", by, len(found))
		}
		return found[0].pod
	}
	for _, w := range ws {
		selected(w.name, w.selector.MatchLabels)
	}
	for _, o := range all {
		switch v := o.value.(type) {
		case *corev1.Service:
			pod := selected("service "+v.Name, v.Spec.Selector)
			for _, p := range v.Spec.Ports {
				if !hasPort(pod, p.TargetPort.StrVal) {
					t.Errorf("service %s: the pod has no port %q", v.Name, p.TargetPort.StrVal)
				}
			}
		case *networkingv1.NetworkPolicy:
			pod := selected("policy "+v.Name, v.Spec.PodSelector.MatchLabels)
			for _, rule := range v.Spec.Ingress {
				for _, from := range rule.From {
					if len(from.PodSelector.MatchLabels) > 0 {
						selected("policy "+v.Name, from.PodSelector.MatchLabels)
					}
				}
				for _, p := range rule.Ports {
					if !hasPort(pod, p.Port.StrVal) {
						t.Errorf("policy %s: the pod has no port %q", v.Name, p.Port.StrVal)
					}
				}
			}
		}
	}
	for _, w := range ws {
		for _, c := range w.pod.Spec.Containers {
			for _, probe := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe} {
				if probe != nil && probe.HTTPGet != nil && !hasPort(w.pod, probe.HTTPGet.Port.StrVal) {
					t.Errorf("%s: a probe asks port %q", w.name, probe.HTTPGet.Port.StrVal)
				}
			}
		}
	}
}

func TestVolumesAreMountedAndComeFromObjectsThatAreThere(t *testing.T) {
	all := everything(t)
	for _, w := range workloads(all) {
		if a := w.pod.Spec.ServiceAccountName; a != "" {
			find[*corev1.ServiceAccount](t, all, a)
		}
		volumes := map[string]bool{}
		for _, v := range w.pod.Spec.Volumes {
			volumes[v.Name] = false
			if v.PersistentVolumeClaim != nil {
				find[*corev1.PersistentVolumeClaim](t, all, v.PersistentVolumeClaim.ClaimName)
			}
			if v.ConfigMap != nil && v.ConfigMap.Name != "prom-agent-config" {
				t.Errorf("%s: nothing makes the ConfigMap %s", w.name, v.ConfigMap.Name)
			}
			if v.Secret != nil && (v.Secret.Optional == nil || !*v.Secret.Optional) {
				t.Errorf("%s: the Secret %s is nobody's to make, and not optional", w.name, v.Secret.SecretName)
			}
		}
		for _, c := range w.pod.Spec.Containers {
			for _, m := range c.VolumeMounts {
				if _, ok := volumes[m.Name]; !ok {
					t.Errorf("%s mounts %s, which is no volume", w.name, m.Name)
				}
				volumes[m.Name] = true
				if m.SubPath != "" {
					t.Errorf("%s mounts %s by a subPath: it would never change", w.name, m.Name)
				}
			}
		}
		for name, mounted := range volumes {
			if !mounted {
				t.Errorf("%s: nobody mounts %s", w.name, name)
			}
		}
	}
}

func TestPodsHaveNoRightsBeyondTheirWork(t *testing.T) {
	for _, w := range workloads(everything(t)) {
		pod := w.pod.Spec
		t.Run(w.name, func(t *testing.T) {
			sc := pod.SecurityContext
			if sc == nil || sc.RunAsNonRoot == nil || !*sc.RunAsNonRoot || sc.RunAsUser == nil || *sc.RunAsUser == 0 || sc.RunAsGroup == nil || *sc.RunAsGroup == 0 {
				t.Errorf("may be root: %+v", sc)
			} else if sc.SeccompProfile == nil || sc.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("seccomp: %+v", sc.SeccompProfile)
			}
			for _, c := range pod.Containers {
				csc := c.SecurityContext
				if csc == nil || csc.ReadOnlyRootFilesystem == nil || !*csc.ReadOnlyRootFilesystem {
					t.Errorf("%s can write to its root file system", c.Name)
					continue
				}
				if csc.AllowPrivilegeEscalation == nil || *csc.AllowPrivilegeEscalation || csc.Privileged != nil {
					t.Errorf("%s can get privileges", c.Name)
				}
				if csc.Capabilities == nil || !slices.Equal(csc.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(csc.Capabilities.Add) > 0 {
					t.Errorf("%s has capabilities: %+v", c.Name, csc.Capabilities)
				}
				if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
					t.Errorf("%s: resources %+v", c.Name, c.Resources)
				}
				if c.ReadinessProbe == nil {
					t.Errorf("%s has no readiness probe", c.Name)
				}
				if strings.HasSuffix(c.Image, ":latest") || !strings.Contains(c.Image, ":") {
					t.Errorf("%s has no pinned version: %s", c.Name, c.Image)
				}
			}
			onHost := w.name == "node-exporter"
			if pod.HostNetwork != onHost || pod.HostPID != onHost || pod.HostIPC {
				t.Errorf("host namespaces: network %t, PID %t, IPC %t", pod.HostNetwork, pod.HostPID, pod.HostIPC)
			}
			for _, v := range pod.Volumes {
				if v.HostPath != nil && !onHost {
					t.Errorf("mounts the host's %s", v.HostPath.Path)
				}
			}
		})
	}
}

func TestNodeExporterSeesTheHostAndCannotChangeIt(t *testing.T) {
	all := build(t, "base")
	pod := find[*appsv1.DaemonSet](t, all, "node-exporter").Spec.Template.Spec
	if len(pod.Volumes) != 1 || pod.Volumes[0].HostPath == nil || pod.Volumes[0].HostPath.Path != "/" {
		t.Fatalf("volumes %+v", pod.Volumes)
	}
	c := pod.Containers[0]
	if len(c.VolumeMounts) != 1 || !c.VolumeMounts[0].ReadOnly {
		t.Fatalf("mounts %+v", c.VolumeMounts)
	}
	// The API server refuses the two together.
	if m := c.VolumeMounts[0]; m.MountPropagation == nil || *m.MountPropagation != corev1.MountPropagationHostToContainer || m.RecursiveReadOnly != nil {
		t.Errorf("mount %+v, want one that sees later mounts", m)
	}
	if arg := "--path.rootfs=" + c.VolumeMounts[0].MountPath; !slices.Contains(c.Args, arg) {
		t.Errorf("args %q, want %s", c.Args, arg)
	}
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Error("has a token that it does not need")
	}
	if s := find[*corev1.Service](t, all, "node-exporter"); s.Spec.ClusterIP != corev1.ClusterIPNone {
		t.Errorf("its service has the address %q, want none", s.Spec.ClusterIP)
	}
}

// kube-state-metrics lists what --resources names; its role must be neither more nor less.
func TestKubeStateMetricsMayReadWhatItListsOnly(t *testing.T) {
	all := build(t, "overlays/local")
	var want []string
	for _, arg := range find[*appsv1.Deployment](t, all, "kube-state-metrics").Spec.Template.Spec.Containers[0].Args {
		if list, ok := strings.CutPrefix(arg, "--resources="); ok {
			want = strings.Split(list, ",")
		}
	}
	var got []string
	for _, r := range find[*rbacv1.ClusterRole](t, all, "kube-state-metrics").Rules {
		if !slices.Equal(r.Verbs, []string{"list", "watch"}) || len(r.NonResourceURLs) > 0 {
			t.Errorf("rule %+v", r)
		}
		got = append(got, r.Resources...)
	}
	slices.Sort(got)
	slices.Sort(want)
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("role has   %v\nit reads  %v", got, want)
	}
}
