package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// How often a node looks at its pods and their probes, and how long it waits
// before it starts an ended container again. A kubelet's times are longer.
const (
	nodePeriod  = 100 * time.Millisecond
	nodeBackOff = time.Second
)

// containerRun is one process of a pod's container.
type containerRun struct {
	node, pod string
	image     string
	log       string
	claims    []string // the claims' folders that the container has mounted
	cmd       *exec.Cmd
	done      chan struct{}

	started, ended time.Time   // it ran within these; ended is set when done is closed
	forced         atomic.Bool // the grace period was over
}

func (r *containerRun) running() bool {
	select {
	case <-r.done:
		return false
	default:
		return true
	}
}

// hosted is a pod that a node has taken on.
type hosted struct {
	terminate chan time.Duration // what the API server gives it to end
	done      chan struct{}      // closed when nothing of it is left on the node
}

// kubeNode is a scheduler, a kubelet and a container runtime for a node and the
// pods of a namespace: it binds pods, lays their volumes out, runs the agent's
// binary in place of every image, reports their status, and ends them as a
// kubelet does. A container has a root folder, user and pod address of its own.
type kubeNode struct {
	c         *cluster
	name, ip  string
	namespace string
	volumes   string                // claims are folders of it, for all nodes that have it
	ended     func(r *containerRun) // called after each process; nil: nobody wants to know

	mu   sync.Mutex
	runs []*containerRun
	pods int // taken on so far, for their addresses

	hosted map[types.UID]*hosted // of the goroutine that watches
	lost   chan struct{}
	lose   func()
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

// startNode makes a node that takes every pod of the namespace that has none.
// The third number of its pods' addresses is the given one.
func startNode(c *cluster, name, ip, namespace, volumes string, ended func(*containerRun)) *kubeNode {
	c.t.Helper()
	c.put(node(name, ip, map[string]string{"kubernetes.io/os": "linux"}))
	n := &kubeNode{c: c, name: name, ip: ip, namespace: namespace, volumes: volumes, ended: ended, hosted: map[types.UID]*hosted{}, lost: make(chan struct{})}
	n.lose = sync.OnceFunc(func() { close(n.lost) })
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	n.wg.Go(func() { n.watch(ctx) })
	c.t.Cleanup(func() {
		n.stop()
		n.wg.Wait()
		if c.t.Failed() {
			for _, r := range n.all() {
				b, _ := os.ReadFile(r.log)
				c.t.Logf("%s on %s said:\n%s", r.pod, r.node, b[max(0, len(b)-3000):])
			}
		}
	})
	return n
}

// all are the node's processes, the oldest first.
func (n *kubeNode) all() []*containerRun {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.runs)
}

// watch does every period what a watch would tell. A lost node goes on with
// what it runs, and neither hears nor says anything.
func (n *kubeNode) watch(ctx context.Context) {
	tick := time.NewTicker(nodePeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.lost:
			return
		case <-tick.C:
		}
		pods, err := n.c.client.CoreV1().Pods(n.namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			continue // the API server may be away
		}
		there := map[types.UID]bool{}
		for i := range pods.Items {
			p := &pods.Items[i]
			there[p.UID] = true
			n.look(ctx, p)
		}
		for uid, h := range n.hosted {
			select {
			case <-h.done:
				delete(n.hosted, uid)
				continue
			default:
			}
			if !there[uid] { // deleted by force
				h.end(0)
			}
		}
	}
}

// end tells the pod's goroutine to end it. It counts once.
func (h *hosted) end(grace time.Duration) {
	select {
	case h.terminate <- grace:
	default:
	}
}

// look schedules a pod, takes it on or ends it.
func (n *kubeNode) look(ctx context.Context, p *corev1.Pod) {
	h := n.hosted[p.UID]
	switch {
	case p.Spec.NodeName == "" && p.DeletionTimestamp == nil:
		err := n.c.client.CoreV1().Pods(p.Namespace).Bind(ctx, &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Name: p.Name, UID: p.UID}, Target: corev1.ObjectReference{Kind: "Node", Name: n.name},
		}, metav1.CreateOptions{})
		if err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			n.c.t.Errorf("bind pod %s: %v", p.Name, err)
		}
	case p.Spec.NodeName != n.name:
	case p.DeletionTimestamp != nil && h == nil: // it never ran here
		n.forget(ctx, p)
	case p.DeletionTimestamp != nil:
		h.end(time.Duration(*p.DeletionGracePeriodSeconds) * time.Second)
	case h == nil:
		h = &hosted{terminate: make(chan time.Duration, 1), done: make(chan struct{})}
		n.hosted[p.UID] = h
		n.mu.Lock()
		n.pods++
		number := n.pods
		n.mu.Unlock()
		ip := n.ip[:strings.LastIndexByte(n.ip, '.')] + fmt.Sprintf(".%d", 100+number)
		n.wg.Go(func() {
			defer close(h.done)
			gone, err := n.host(ctx, p, ip, h)
			if err != nil {
				n.c.t.Errorf("pod %s on %s: %v", p.Name, n.name, err)
			}
			if gone {
				n.forget(ctx, p)
			}
		})
	}
}

// forget deletes a pod of which nothing runs any more.
func (n *kubeNode) forget(ctx context.Context, p *corev1.Pod) {
	zero := int64(0)
	err := n.c.client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &p.UID}})
	if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		n.c.t.Errorf("delete pod %s: %v", p.Name, err)
	}
}

// host keeps a pod's container running until the pod is to end, or the test
// does. gone: the API server may know that nothing of it is left.
func (n *kubeNode) host(ctx context.Context, p *corev1.Pod, ip string, h *hosted) (gone bool, err error) {
	root := filepath.Join(n.c.dir, n.name+"-"+string(p.UID))
	claims, err := n.layOut(ctx, p, root)
	defer func() { err = errors.Join(err, syscall.Unmount(root, syscall.MNT_DETACH)) }()
	if err != nil {
		return false, fmt.Errorf("lay out: %w", err)
	}
	for restarts := int32(0); ; restarts++ {
		r, err := n.start(p, ip, root, claims, restarts)
		if err != nil {
			return false, err
		}
		if ending, gone := n.attend(ctx, p, ip, r, h, restarts); ending {
			return gone, nil
		}
	}
}

// attend reports a process's state until it has ended and its time for another
// start has come. ending: there is to be none; gone: and the API server may know.
func (n *kubeNode) attend(ctx context.Context, p *corev1.Pod, ip string, r *containerRun, h *hosted, restarts int32) (ending, gone bool) {
	tick := time.NewTicker(nodePeriod)
	defer tick.Stop()
	state := corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(r.started)}}
	ready := false
	n.report(ctx, p, ip, corev1.PodRunning, state, ready, restarts)
	for {
		select {
		case <-tick.C:
			if now := probe(ctx, p, ip); now != ready {
				ready = now
				n.report(ctx, p, ip, corev1.PodRunning, state, ready, restarts)
			}
		case <-r.done:
			state = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
			n.report(ctx, p, ip, corev1.PodRunning, state, false, restarts)
			select {
			case <-time.After(nodeBackOff):
				return false, false
			case <-h.terminate:
				return true, true
			case <-n.lost:
				return true, false
			case <-ctx.Done():
				return true, false
			}
		case grace := <-h.terminate:
			r.cmd.Process.Signal(syscall.SIGTERM)
			timer := time.NewTimer(grace)
			defer timer.Stop()
			select {
			case <-r.done:
			case <-ctx.Done():
				r.cmd.Process.Kill()
				<-r.done
				return true, false
			case <-timer.C:
				r.forced.Store(true)
				r.cmd.Process.Kill()
				<-r.done
			}
			code := int32(r.cmd.ProcessState.ExitCode())
			phase := corev1.PodSucceeded
			if code != 0 {
				phase = corev1.PodFailed
			}
			state = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: metav1.NewTime(r.ended)}}
			n.report(ctx, p, ip, phase, state, false, restarts)
			return true, true
		case <-ctx.Done():
			r.cmd.Process.Kill()
			<-r.done
			return true, false
		}
	}
}

// probe asks what the readiness probe asks.
func probe(ctx context.Context, p *corev1.Pod, ip string) bool {
	c := p.Spec.Containers[0]
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	port := 0
	for _, q := range c.Ports {
		if q.Name == c.ReadinessProbe.HTTPGet.Port.StrVal {
			port = int(q.ContainerPort)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d%s", ip, port, c.ReadinessProbe.HTTPGet.Path), nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// report sets the pod's status.
func (n *kubeNode) report(ctx context.Context, p *corev1.Pod, ip string, phase corev1.PodPhase, state corev1.ContainerState, ready bool, restarts int32) {
	select {
	case <-n.lost:
		return
	default:
	}
	condition := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.Now()}
	if ready {
		condition.Status = corev1.ConditionTrue
	}
	container := p.Spec.Containers[0]
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": p.UID},
		"status": corev1.PodStatus{
			Phase: phase, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, HostIP: n.ip, StartTime: &p.CreationTimestamp,
			Conditions: []corev1.PodCondition{condition},
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: container.Name, Image: container.Image, ImageID: container.Image, Ready: ready, RestartCount: restarts, State: state,
				ContainerID: fmt.Sprintf("processes://%s-%d", p.UID, restarts),
			}},
		},
	})
	if err == nil {
		_, err = n.c.client.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	}
	if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		n.c.t.Errorf("report %s of pod %s: %v", phase, p.Name, err)
	}
}

// layOut makes the container's root: the image, which is read-only, and the
// pod's volumes. It is the folders of the claims among them.
func (n *kubeNode) layOut(ctx context.Context, p *corev1.Pod, root string) (claims []string, err error) {
	container := p.Spec.Containers[0]
	if err := os.Mkdir(root, 0o755); err != nil {
		return nil, err
	}
	if err := syscall.Mount("root", root, "tmpfs", 0, "mode=755"); err != nil {
		return nil, fmt.Errorf("mount %s: %w", root, err)
	}
	binary, err := filepath.Abs(agentBinary)
	if err != nil {
		return nil, err
	}
	bind := func(from, to string) error {
		if err := syscall.Mount(from, filepath.Join(root, to), "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
			return fmt.Errorf("mount %s at %s: %w", from, to, err)
		}
		return nil
	}
	err = errors.Join(
		os.Mkdir(filepath.Join(root, "bin"), 0o755), os.WriteFile(filepath.Join(root, "bin/prom-agent"), nil, 0o755), bind(binary, "bin/prom-agent"),
		os.Mkdir(filepath.Join(root, "proc"), 0o555), bind("/proc", "proc"))
	if err != nil {
		return nil, err
	}
	volumes := map[string]corev1.Volume{}
	for _, v := range p.Spec.Volumes {
		volumes[v.Name] = v
	}
	for _, m := range container.VolumeMounts {
		at := filepath.Join(root, m.MountPath)
		if err := os.MkdirAll(at, 0o755); err != nil {
			return nil, err
		}
		switch v := volumes[m.Name]; {
		case v.ConfigMap != nil:
			files, err := n.c.client.CoreV1().ConfigMaps(p.Namespace).Get(ctx, v.ConfigMap.Name, metav1.GetOptions{})
			if err != nil {
				return nil, err
			}
			for name, text := range files.Data {
				if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o644); err != nil {
					return nil, err
				}
			}
		case v.PersistentVolumeClaim != nil:
			folder := filepath.Join(n.volumes, v.PersistentVolumeClaim.ClaimName)
			err := os.MkdirAll(folder, 0o770)
			if err == nil && mapped() { // as fsGroup is made true
				err = errors.Join(os.Chown(folder, 0, int(*p.Spec.SecurityContext.FSGroup)), os.Chmod(folder, 0o770|os.ModeSetgid))
			}
			if err := errors.Join(err, bind(folder, m.MountPath)); err != nil {
				return nil, err
			}
			claims = append(claims, folder)
		case v.Secret != nil && v.Secret.Optional != nil && *v.Secret.Optional: // there is none
		default:
			return nil, fmt.Errorf("volume %s is of an unknown kind", m.Name)
		}
	}
	if err := syscall.Mount("", root, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		return nil, fmt.Errorf("make the root read-only: %w", err)
	}
	return claims, nil
}

// mapped says whether there are users beside root: not in a user namespace of one user.
func mapped() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && !strings.HasSuffix(strings.TrimSpace(string(b)), " 1")
}

// start runs the container.
func (n *kubeNode) start(p *corev1.Pod, ip, root string, claims []string, restarts int32) (*containerRun, error) {
	container := p.Spec.Containers[0]
	r := &containerRun{
		node: n.name, pod: p.Name, image: container.Image, claims: claims, done: make(chan struct{}),
		log: filepath.Join(n.c.dir, fmt.Sprintf("%s-%s-%d.log", n.name, p.Name, restarts)), started: time.Now(),
	}
	out, err := os.Create(r.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	r.cmd = exec.Command("/bin/prom-agent")
	for _, a := range container.Args {
		// All pods have the test's network: each listens on its own address.
		r.cmd.Args = append(r.cmd.Args, strings.Replace(a, "--web.listen-address=:", "--web.listen-address="+ip+":", 1))
	}
	r.cmd.Dir, r.cmd.Env = "/", []string{"PATH=/bin"}
	r.cmd.Stdout, r.cmd.Stderr = out, out
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if mapped() {
		s := p.Spec.SecurityContext
		r.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(*s.RunAsUser), Gid: uint32(*s.RunAsGroup), Groups: []uint32{uint32(*s.FSGroup)}}
	}
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", container.Name, err)
	}
	n.mu.Lock()
	n.runs = append(n.runs, r)
	n.mu.Unlock()
	n.wg.Go(func() {
		r.cmd.Wait()
		r.ended = time.Now()
		if n.ended != nil {
			n.ended(r)
		}
		close(r.done)
	})
	return r, nil
}

// startControllers runs what makes pods of Deployments.
func startControllers(t testing.TB, c *cluster) *process {
	t.Helper()
	return startUntil(t, "kube-controller-manager", c.addr, func(*process) error {
		deployments, err := c.client.AppsV1().Deployments("").List(context.Background(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, d := range deployments.Items {
			if d.Status.ObservedGeneration != d.Generation {
				return fmt.Errorf("deployment %s is not observed", d.Name)
			}
		}
		return nil
	}, filepath.Join(kubeBinaries, "kube-controller-manager"),
		"--kubeconfig="+c.admin, "--controllers=deployment-controller,replicaset-controller",
		"--leader-elect=false", "--secure-port=0")
}
