//go:build live

package k8s_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
)

// What the test needs is in the environment, by scripts/k8s-test: KUBECONFIG; the images in the cluster, ours as
// patchbay/gateway:k8s-test; K8S_TEST_POSTGRES_UID, the user "postgres" of the image postgres:17-alpine there.
const (
	space     = "patchbay-k8s-test"
	clientsOf = 300
)

// live is the overlay under test: what ships, with nginx, the relay for traffic, and smaller requests, for a node of two cores.
const live = `
namespace: ` + space + `
resources: [../%[1]s]
components: [../../components/nginx]
images:
- {name: patchbay/gateway, newTag: k8s-test}
configMapGenerator:
- {name: gateway, behavior: merge, literals: [GATEWAY_RELAY=true]}
patches:
- target: {kind: Deployment}
  patch: |-
    - {op: replace, path: /spec/template/spec/containers/0/resources/requests/cpu, value: 50m}
%[2]s`

const postgresUser = `
- target: {kind: Deployment, name: postgres-dev}
  patch: |-
    - {op: replace, path: /spec/template/spec/securityContext/runAsUser, value: %[1]s}
    - {op: replace, path: /spec/template/spec/securityContext/runAsGroup, value: %[1]s}
    - {op: replace, path: /spec/template/spec/securityContext/fsGroup, value: %[1]s}
`

func TestLive(t *testing.T) {
	if os.Getenv("KUBECONFIG") == "" {
		t.Fatal("KUBECONFIG is not set: see scripts/k8s-test")
	}
	for _, bus := range []string{"redis", "postgres"} {
		t.Run(bus, func(t *testing.T) {
			c := deploy(t, bus)
			p := c.connect(t)
			for _, phase := range []struct {
				name string
				run  func(*testing.T, *cluster, *clients)
			}{
				{"sticky", sticky},
				{"rolling update", rollingUpdate},
				{"deleted pod", deletedPod},
				{"scaling", scaling},
				{"eviction", eviction},
				{"killed pod", killedPod},
				{"bus away", busAway},
			} {
				if !t.Run(phase.name, func(t *testing.T) { phase.run(t, c, p) }) {
					t.FailNow()
				}
			}
		})
	}
}

// What gateway.networking.k8s.io and monitoring.coreos.com have, the API server only takes with their definitions, which
// this cluster need not have: those overlays are for build_test.go.

// cluster is a deployment in the namespace of the test.
type cluster struct {
	bus string
	url string // of nginx, from here
}

// kubectl runs in the namespace of the test.
func kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, err := kubectlErr(t, stdin, args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func kubectlErr(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "kubectl", append([]string{"--namespace", space}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(e.Stderr))
	}
	return string(out), err
}

func get[T any](t *testing.T, args ...string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(kubectl(t, "", append([]string{"get", "--output", "json"}, args...)...)), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// await asks again until the answer is "", which is what is still missing.
func await(t *testing.T, limit time.Duration, missing func() string) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		what := missing()
		if what == "" {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			t.Fatalf("after %v: %s", limit, what)
		}
		<-tick.C
	}
}

func deploy(t *testing.T, bus string) *cluster {
	t.Helper()
	files := tree(t, true)
	user := ""
	if bus == "postgres" {
		user = fmt.Sprintf(postgresUser, os.Getenv("K8S_TEST_POSTGRES_UID"))
	}
	overlay := fmt.Sprintf(live, bus, user)
	if err := files.WriteFile(path.Join("/", manifest, "overlays/live/kustomization.yaml"), []byte(overlay)); err != nil {
		t.Fatal(err)
	}
	dir := write(t, files)
	remove := func(ctx context.Context) {
		out, err := exec.CommandContext(ctx, "kubectl", "delete", "namespace", space, "--ignore-not-found", "--timeout=180s").CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	remove(t.Context()) // what an earlier run has left
	t.Cleanup(func() {
		if t.Failed() {
			diagnose(t)
		}
		remove(context.Background())
	})
	began := time.Now()
	kubectl(t, "", "apply", "--kustomize", filepath.Join(dir, manifest, "overlays/live"))
	c := &cluster{bus: bus}
	c.await(t, 3)
	kubectl(t, "", "rollout", "status", "deployment/nginx", "--timeout=120s")
	t.Logf("applied and available within %v", time.Since(began).Round(time.Second))
	for _, p := range get[corev1.Service](t, "service/nginx").Spec.Ports {
		c.url = fmt.Sprintf("http://127.0.0.1:%d", p.NodePort)
	}
	return c
}

// diagnose says what a person would look at first.
func diagnose(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{
		{"get", "pods", "-o", "wide"},
		{"get", "events", "--sort-by=.lastTimestamp"},
		{"logs", "--selector=app.kubernetes.io/name=gateway", "--tail=30", "--prefix"},
		{"logs", "--selector=app.kubernetes.io/name=nginx", "--tail=30", "--prefix"},
	} {
		out, _ := exec.Command("kubectl", append([]string{"--namespace", space}, args...)...).CombinedOutput()
		t.Logf("kubectl %s\n%s", strings.Join(args, " "), out)
	}
}

// pods are those of the gateway that are not on their way out, and, apart from them, those that are.
func (c *cluster) pods(t *testing.T) (here, going []corev1.Pod) {
	t.Helper()
	for _, p := range get[corev1.PodList](t, "pods", "--selector=app.kubernetes.io/name=gateway").Items {
		if p.DeletionTimestamp == nil {
			here = append(here, p)
		} else {
			going = append(going, p)
		}
	}
	return here, going
}

// await waits until there are n nodes, all of them available, and no other pods.
func (c *cluster) await(t *testing.T, n int32) time.Duration {
	t.Helper()
	return await(t, 5*time.Minute, func() string {
		d := get[appsv1.Deployment](t, "deployment/gateway")
		s := d.Status
		here, going := c.pods(t)
		if s.ObservedGeneration != d.Generation || s.AvailableReplicas != n || s.UpdatedReplicas != n || s.Replicas != n || len(here) != int(n) || len(going) > 0 {
			return fmt.Sprintf("%d of %d available, %d updated, %d pods and %d on their way out", s.AvailableReplicas, n, s.UpdatedReplicas, len(here), len(going))
		}
		return ""
	})
}

// metric is the sum of a metric's series that match, over all nodes.
func (c *cluster) metric(t *testing.T, pattern string) (sum float64) {
	t.Helper()
	here, _ := c.pods(t)
	line := regexp.MustCompile(`(?m)^` + pattern + ` ([0-9.e+]+)$`)
	for _, p := range here {
		out := kubectl(t, "", "get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:9090/proxy/metrics", space, p.Name))
		for _, m := range line.FindAllStringSubmatch(out, -1) {
			v, err := strconv.ParseFloat(m[len(m)-1], 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += v
		}
	}
	return sum
}

// clients is the process with the stock clients.
type clients struct {
	in  io.WriteCloser
	out *bufio.Reader
}

type numbers struct {
	Connected             int                         `json:"connected"`
	Nodes                 map[string]int              `json:"nodes"`
	Transports            map[string]int              `json:"transports"`
	Connects              int                         `json:"connects"`
	Disconnects           map[string]int              `json:"disconnects"`
	Errors                map[string]int              `json:"errors"`
	Failed                map[string]int              `json:"failed"`
	Published             int                         `json:"published"`
	Acked                 int                         `json:"acked"`
	Received              int                         `json:"received"`
	ReceivedFromElsewhere int                         `json:"receivedFromElsewhere"`
	Away                  struct{ P50, P99, Max int } `json:"away"`
	Lag                   int                         `json:"lag"`
}

func (n numbers) String() string {
	text, _ := json.Marshal(n) // of plain values
	return string(text)
}

func (c *cluster) connect(t *testing.T) *clients {
	t.Helper()
	cmd := exec.Command("node", "clients.mjs", c.url, strconv.Itoa(clientsOf))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &clients{in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		stop := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		defer stop.Stop()
		_ = in.Close()
		if err := cmd.Wait(); err != nil && !t.Failed() {
			t.Errorf("the clients: %v", err)
		}
	})
	p.awaitAll(t, time.Minute)
	return p
}

func (p *clients) ask(t *testing.T, command string) (n numbers) {
	t.Helper()
	if _, err := fmt.Fprintln(p.in, command); err != nil {
		t.Fatal(err)
	}
	line, err := p.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (p *clients) awaitAll(t *testing.T, limit time.Duration) {
	t.Helper()
	await(t, limit, func() string {
		if n := p.ask(t, "report"); n.Connected != clientsOf {
			return fmt.Sprintf("%d of %d connected: %v", n.Connected, clientsOf, n)
		}
		return ""
	})
}

// settle waits until all clients are there and hear each other across nodes, and returns what was counted.
func (p *clients) settle(t *testing.T) numbers {
	t.Helper()
	p.awaitAll(t, time.Minute)
	before := p.ask(t, "report")
	await(t, time.Minute, func() string {
		n := p.ask(t, "report")
		// Everybody has published once more, and as much has come from other nodes.
		if n.Acked < before.Acked+clientsOf || n.ReceivedFromElsewhere < before.ReceivedFromElsewhere+clientsOf {
			return fmt.Sprintf("no traffic: %v, then %v", before, n)
		}
		return ""
	})
	n := p.ask(t, "mark")
	t.Log(n)
	return n
}

// unharmed checks that nothing happened to clients but reconnects, and those to at most so many.
func (n numbers) unharmed(t *testing.T, reconnects int) {
	t.Helper()
	if n.Connected != clientsOf || len(n.Errors) > 0 || len(n.Failed) > 0 {
		t.Errorf("%d connected, errors %v, failed requests %v", n.Connected, n.Errors, n.Failed)
	}
	for reason, times := range n.Disconnects {
		if reason != "transport close" || times > reconnects {
			t.Errorf("%d disconnects for %q, want at most %d for a transport's close", times, reason, reconnects)
		}
	}
	if lost := n.Disconnects["transport close"]; n.Connects != lost {
		t.Errorf("%d connects for %d disconnects", n.Connects, lost)
	}
	// The first back-off is 0.5 s to 1.5 s. What comes on top is this machine's, which runs all of it.
	if n.Away.P50 > 2000+n.Lag || n.Away.Max > 10_000 {
		t.Errorf("clients were away for %+v ms", n.Away)
	}
}

// sticky checks that clients are spread, and that nginx brought each request to the owner of its session.
var sticky = func(t *testing.T, c *cluster, p *clients) {
	n := p.settle(t)
	if len(n.Nodes) != 3 || len(n.Errors)+len(n.Failed)+len(n.Disconnects) > 0 {
		t.Errorf("%v", n)
	}
	if n.Transports["polling"] != clientsOf/3 || n.Transports["websocket"] != 2*clientsOf/3 {
		t.Errorf("transports %v", n.Transports)
	}
	here, _ := c.pods(t)
	for _, pod := range here {
		if n.Nodes[tag(pod)] == 0 {
			t.Errorf("nobody is on %s (%s): %v", pod.Name, pod.Status.PodIP, n.Nodes)
		}
	}
	if v := c.metric(t, `patchbay_forwarded_requests_total\{[^}]*\}`); v != 0 {
		t.Errorf("%v requests had to be forwarded", v)
	}
	if v := c.metric(t, `patchbay_sessions\{[^}]*\}`); v != clientsOf {
		t.Errorf("the nodes count %v sessions", v)
	}
}

var rollingUpdate = func(t *testing.T, c *cluster, p *clients) {
	old, _ := c.pods(t)
	began := time.Now()
	kubectl(t, "", "rollout", "restart", "deployment/gateway")
	kubectl(t, "", "rollout", "status", "deployment/gateway", "--timeout=5m")
	t.Logf("rolled out after %v", time.Since(began).Round(time.Second))
	c.await(t, 3)
	t.Logf("the old pods are gone after %v", time.Since(began).Round(time.Second))
	n := p.settle(t)
	// A client may come to a pod that is to go next: at worst, twice.
	n.unharmed(t, 3*clientsOf)
	if n.Connects < clientsOf {
		t.Errorf("only %d have moved", n.Connects)
	}
	for _, pod := range old {
		if k := n.Nodes[tag(pod)]; k > 0 {
			t.Errorf("%d are on a pod that is gone", k)
		}
	}
}

var deletedPod = func(t *testing.T, c *cluster, p *clients) {
	here, _ := c.pods(t)
	hit := p.ask(t, "mark").Nodes[tag(here[0])]
	kubectl(t, "", "delete", "pod", here[0].Name, "--wait=false")
	took := c.await(t, 3)
	t.Logf("replaced and gone after %v", took.Round(time.Second))
	n := p.settle(t)
	n.unharmed(t, hit)
}

var scaling = func(t *testing.T, c *cluster, p *clients) {
	p.ask(t, "mark")
	kubectl(t, "", "scale", "deployment/gateway", "--replicas=5")
	t.Logf("5 nodes after %v", c.await(t, 5).Round(time.Second))
	n := p.settle(t)
	n.unharmed(t, 0)
	// The youngest would go, which have nobody: here it is two that have.
	full := 0
	here, _ := c.pods(t)
	for _, pod := range here {
		if on := n.Nodes[tag(pod)]; on > 0 && full < 2 {
			kubectl(t, "", "annotate", "pod", pod.Name, "controller.kubernetes.io/pod-deletion-cost=-1")
			full++
		}
	}
	kubectl(t, "", "scale", "deployment/gateway", "--replicas=3")
	t.Logf("3 nodes after %v", c.await(t, 3).Round(time.Second))
	n = p.settle(t)
	n.unharmed(t, 2*clientsOf)
	if full != 2 || n.Connects == 0 {
		t.Errorf("%d pods with clients have gone, %d clients have come back", full, n.Connects)
	}
}

// tag is that of a pod's node.
func tag(p corev1.Pod) string { return strings.ReplaceAll(p.Status.PodIP, ".", "-") }

// eviction is what kubectl drain asks for, pod by pod.
var eviction = func(t *testing.T, c *cluster, p *clients) {
	p.ask(t, "mark")
	here, _ := c.pods(t)
	evict := func(pod corev1.Pod) error {
		body := fmt.Sprintf(`{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":%q,"namespace":%q}}`, pod.Name, space)
		_, err := kubectlErr(t, body, "create", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/eviction", space, pod.Name), "--filename", "-")
		return err
	}
	if err := evict(here[0]); err != nil {
		t.Fatal(err)
	}
	err := evict(here[1])
	if err == nil || !strings.Contains(err.Error(), "disruption budget") {
		t.Fatalf("a second pod may go while the first is not replaced: %v", err)
	}
	t.Logf("the second is held: %v", err)
	held := await(t, 2*time.Minute, func() string {
		if err := evict(here[1]); err != nil {
			return err.Error()
		}
		return ""
	})
	t.Logf("the second is let go after %v", held.Round(time.Second))
	c.await(t, 3)
	p.settle(t).unharmed(t, 2*clientsOf)
	if b := get[policyv1.PodDisruptionBudget](t, "pdb/gateway"); b.Status.DisruptionsAllowed != 1 {
		t.Errorf("the budget allows %d", b.Status.DisruptionsAllowed)
	}
}

// killedPod takes a pod without a word: its clients see it, the others do not.
var killedPod = func(t *testing.T, c *cluster, p *clients) {
	here, _ := c.pods(t)
	hit := p.ask(t, "mark").Nodes[tag(here[0])]
	kubectl(t, "", "delete", "pod", here[0].Name, "--grace-period=0", "--force")
	c.await(t, 3)
	n := p.settle(t)
	total := 0
	for _, times := range n.Disconnects {
		total += times
	}
	if total > hit || n.Connected != clientsOf {
		t.Errorf("%d disconnects of %d clients that were there", total, hit)
	}
	for text := range n.Errors {
		if strings.HasPrefix(text, "publish") || strings.HasPrefix(text, "join") {
			t.Errorf("%v", n.Errors)
		}
	}
}

// busAway checks that nobody is disconnected, nodes say that they are not ready, in their time, and all is well afterwards.
var busAway = func(t *testing.T, c *cluster, p *clients) {
	p.ask(t, "mark")
	ready := func() (n int) {
		here, _ := c.pods(t)
		for _, pod := range here {
			for _, cond := range pod.Status.Conditions {
				if cond.Type == corev1.PodReady && cond.Status == corev1.ConditionTrue {
					n++
				}
			}
		}
		return n
	}
	kubectl(t, "", "scale", "deployment/"+c.bus+"-dev", "--replicas=0")
	unready := await(t, 3*time.Minute, func() string {
		if n := ready(); n > 0 {
			return fmt.Sprintf("%d are ready", n)
		}
		return ""
	})
	t.Logf("none is ready after %v", unready.Round(time.Second))
	if unready < 45*time.Second {
		t.Errorf("a failover of %v would have taken all of them out", unready)
	}
	if n := p.ask(t, "report"); n.Connected != clientsOf || len(n.Disconnects) > 0 {
		t.Errorf("without %s: %v", c.bus, n)
	}
	kubectl(t, "", "scale", "deployment/"+c.bus+"-dev", "--replicas=1")
	t.Logf("all are ready %v after it is back", c.await(t, 3).Round(time.Second))
	restarts := map[string]int32{}
	here, _ := c.pods(t)
	for _, pod := range here {
		if n := pod.Status.ContainerStatuses[0].RestartCount; n > 0 {
			restarts[pod.Name] = n
		}
	}
	if len(restarts) > 0 {
		t.Errorf("restarted: %v", restarts)
	}
	n := p.settle(t)
	n.unharmed(t, 0)
	if v := slices.Sorted(maps.Keys(n.Nodes)); len(v) == 0 {
		t.Error("nobody is anywhere")
	}
}
