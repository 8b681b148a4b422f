package k8s_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

func TestNamespaceIsRestricted(t *testing.T) {
	each(t, func(t *testing.T, m *model) {
		spaces := all[*corev1.Namespace](t, m.objects)
		for _, o := range m.objects {
			if _, ok := o.(*corev1.Namespace); !ok && spaces[o.GetNamespace()] == nil {
				t.Errorf("%s is in the namespace %q", o.GetName(), o.GetNamespace())
			}
		}
		for name, ns := range spaces {
			if ns.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
				t.Errorf("%s: labels %v", name, ns.Labels)
			}
		}
	})
}

// The restricted level of the Pod Security Standards, and more.
func TestPodsAreRestricted(t *testing.T) {
	each(t, func(t *testing.T, m *model) {
		for name, d := range m.deployments {
			spec := d.Spec.Template.Spec
			sc := spec.SecurityContext
			switch {
			case sc == nil || sc.RunAsNonRoot == nil || !*sc.RunAsNonRoot:
				t.Errorf("%s may run as root", name)
			case sc.RunAsUser == nil || *sc.RunAsUser == 0:
				t.Errorf("%s: the user is not a number", name)
			case sc.SeccompProfile == nil || sc.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault:
				t.Errorf("%s: seccomp %v", name, sc.SeccompProfile)
			}
			if spec.HostNetwork || spec.HostPID || spec.HostIPC {
				t.Errorf("%s sees the host", name)
			}
			if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
				t.Errorf("%s gets a token", name)
			}
			if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
				t.Errorf("%s gets variables of Services", name)
			}
			for _, v := range spec.Volumes {
				if v.HostPath != nil {
					t.Errorf("%s: volume %s is the host's", name, v.Name)
				}
			}
			for _, c := range containers(d) {
				sc := c.SecurityContext
				switch {
				case sc == nil || sc.AllowPrivilegeEscalation == nil || *sc.AllowPrivilegeEscalation:
					t.Errorf("%s may gain privileges", name)
				case sc.ReadOnlyRootFilesystem == nil || !*sc.ReadOnlyRootFilesystem:
					t.Errorf("%s may write", name)
				case sc.Capabilities == nil || !slices.Contains(sc.Capabilities.Drop, "ALL") || len(sc.Capabilities.Add) > 0:
					t.Errorf("%s has capabilities", name)
				case sc.Privileged != nil && *sc.Privileged:
					t.Errorf("%s is privileged", name)
				}
				for _, p := range c.Ports {
					if p.HostPort != 0 {
						t.Errorf("%s takes a port of the host", name)
					}
				}
			}
		}
		dockerfile, err := os.ReadFile(filepath.Join(repo, "Dockerfile"))
		if err != nil {
			t.Fatal(err)
		}
		sc := m.deployments["gateway"].Spec.Template.Spec.SecurityContext
		if user := fmt.Sprintf("\nUSER %d:%d\n", *sc.RunAsUser, *sc.RunAsGroup); !strings.Contains(string(dockerfile), user) {
			t.Errorf("the image is not for %q", user)
		}
	})
}

func containers(d *appsv1.Deployment) []corev1.Container {
	return slices.Concat(d.Spec.Template.Spec.InitContainers, d.Spec.Template.Spec.Containers)
}

func TestImages(t *testing.T) {
	tagged := regexp.MustCompile(`^[a-z0-9./-]+:([a-z0-9.-]+)$`)
	each(t, func(t *testing.T, m *model) {
		for name, d := range m.deployments {
			for _, c := range containers(d) {
				tag := tagged.FindStringSubmatch(c.Image)
				if tag == nil || tag[1] == "latest" || tag[1] == "set-by-an-overlay" {
					t.Errorf("%s: image %q", name, c.Image)
				}
			}
		}
	})
}

func TestSelectors(t *testing.T) {
	only := func(t *testing.T, m *model, what string, s *metav1.LabelSelector) *appsv1.Deployment {
		t.Helper()
		found := m.selected(t, s)
		if s == nil || len(s.MatchLabels)+len(s.MatchExpressions) == 0 || len(found) != 1 {
			t.Errorf("%s selects %d Deployments", what, len(found))
			return new(appsv1.Deployment)
		}
		return found[0]
	}
	each(t, func(t *testing.T, m *model) {
		for name, d := range m.deployments {
			if only(t, m, name, d.Spec.Selector) != d {
				t.Errorf("%s does not select its own pods", name)
			}
			for _, c := range d.Spec.Template.Spec.TopologySpreadConstraints {
				if only(t, m, name+"'s spread", c.LabelSelector) != d {
					t.Errorf("%s is spread by others", name)
				}
			}
		}
		for name, s := range m.services {
			d := only(t, m, name, &metav1.LabelSelector{MatchLabels: s.Spec.Selector})
			for _, p := range s.Spec.Ports {
				if p.TargetPort.Type != intstr.String || port(d, p.TargetPort) == 0 {
					t.Errorf("%s: no port %s", name, p.TargetPort.String())
				}
				// A name of a headless Service leads to the pods, past its port numbers.
				if s.Spec.ClusterIP == corev1.ClusterIPNone && p.Port != port(d, p.TargetPort) {
					t.Errorf("%s: %d leads nowhere", name, p.Port)
				}
			}
		}
		for name, b := range all[*policyv1.PodDisruptionBudget](t, m.objects) {
			if d := only(t, m, name, b.Spec.Selector); d.Name != name {
				t.Errorf("the budget %s is for %s", name, d.Name)
			}
		}
		for name, h := range all[*autoscalingv2.HorizontalPodAutoscaler](t, m.objects) {
			if r := h.Spec.ScaleTargetRef; r.Kind != "Deployment" || m.deployments[r.Name] == nil {
				t.Errorf("%s scales %v", name, r)
			}
		}
		for name, p := range all[*networkingv1.NetworkPolicy](t, m.objects) {
			d := only(t, m, name, &p.Spec.PodSelector)
			for _, r := range p.Spec.Ingress {
				for _, np := range r.Ports {
					if np.Port == nil || port(d, *np.Port) == 0 {
						t.Errorf("%s opens %v, which %s has not", name, np.Port, d.Name)
					}
				}
				peers(t, m, name, r.From, nil)
			}
			for _, r := range p.Spec.Egress {
				if len(r.To) == 0 || len(r.Ports) == 0 {
					t.Errorf("%s lets everything out", name)
				}
				peers(t, m, name, r.To, r.Ports)
			}
		}
		for name, sm := range all[*monitoringv1.ServiceMonitor](t, m.objects) {
			selector, err := metav1.LabelSelectorAsSelector(&sm.Spec.Selector)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range m.services {
				scraped := selector.Matches(labels.Set(s.Labels))
				named := slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == sm.Spec.Endpoints[0].Port })
				if scraped != (s.Name == "gateway-headless") || scraped && !named {
					t.Errorf("%s and %s: scraped %v, port %v", name, s.Name, scraped, named)
				}
			}
		}
		for name, r := range all[*gatewayv1.HTTPRoute](t, m.objects) {
			for _, rule := range r.Spec.Rules {
				for _, b := range rule.BackendRefs {
					s := m.services[string(b.Name)]
					if s == nil || b.Port == nil || !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == int32(*b.Port) }) {
						t.Errorf("%s leads to %s, which is not there", name, b.Name)
					}
				}
			}
		}
	})
}

// peers checks that pods of this namespace that a policy names are there, and have the ports.
func peers(t *testing.T, m *model, name string, list []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) {
	t.Helper()
	for _, p := range list {
		if p.PodSelector == nil || p.NamespaceSelector != nil {
			continue
		}
		found := m.selected(t, p.PodSelector)
		if len(found) != 1 {
			t.Errorf("%s names %d Deployments by %v", name, len(found), p.PodSelector)
			continue
		}
		for _, np := range ports {
			if np.Port.Type != intstr.Int || port(found[0], *np.Port) == 0 { // a port's name in egress is not understood everywhere
				t.Errorf("%s: %s has no port %s", name, found[0].Name, np.Port)
			}
		}
	}
}

// Nodes, monitoring, bus, balancer: each way that a node needs is open, and each client's.
func TestPoliciesLetThroughWhatIsNeeded(t *testing.T) {
	each(t, func(t *testing.T, m *model) {
		policies := all[*networkingv1.NetworkPolicy](t, m.objects)
		can := func(from, to string) bool {
			t.Helper()
			out, in := false, false
			for _, p := range policies {
				for _, d := range m.selected(t, &p.Spec.PodSelector) {
					for _, r := range p.Spec.Egress {
						out = out || d.Name == from && means(t, m, r.To, to)
					}
					for _, r := range p.Spec.Ingress {
						in = in || d.Name == to && (len(r.From) == 0 || means(t, m, r.From, from))
					}
				}
			}
			return out && in
		}
		for _, name := range []string{"redis-dev", "postgres-dev"} {
			if m.deployments[name] != nil && (!can("gateway", name) || can("nginx", name) || can(name, "gateway") && m.deployments["nginx"] != nil) {
				t.Errorf("%s: open or closed where it should not be", name)
			}
		}
		if !can("gateway", "gateway") {
			t.Error("nodes do not reach each other")
		}
		if m.deployments["nginx"] != nil && !can("nginx", "gateway") {
			t.Error("nginx does not reach the nodes")
		}
		for name := range m.deployments {
			if policies[name] == nil || !slices.Contains(policies[name].Spec.PolicyTypes, networkingv1.PolicyTypeEgress) ||
				!slices.Contains(policies[name].Spec.PolicyTypes, networkingv1.PolicyTypeIngress) {
				t.Errorf("%s has no policy of its own for both directions", name)
			}
		}
	})
}

func means(t *testing.T, m *model, list []networkingv1.NetworkPolicyPeer, name string) bool {
	t.Helper()
	return slices.ContainsFunc(list, func(p networkingv1.NetworkPolicyPeer) bool {
		return p.NamespaceSelector == nil && p.PodSelector != nil &&
			slices.ContainsFunc(m.selected(t, p.PodSelector), func(d *appsv1.Deployment) bool { return d.Name == name })
	})
}

func TestReferences(t *testing.T) {
	each(t, func(t *testing.T, m *model) {
		for name, d := range m.deployments {
			spec := d.Spec.Template.Spec
			if a := spec.ServiceAccountName; a != "" && m.accounts[a] == nil {
				t.Errorf("%s: no ServiceAccount %s", name, a)
			}
			volumes := make(map[string]bool)
			for _, v := range spec.Volumes {
				volumes[v.Name] = false
				if v.ConfigMap != nil && m.configMaps[v.ConfigMap.Name] == nil {
					t.Errorf("%s: no ConfigMap %s", name, v.ConfigMap.Name)
				}
				if v.Projected == nil {
					continue
				}
				for _, s := range v.Projected.Sources {
					if m.configMaps[s.ConfigMap.Name] == nil {
						t.Errorf("%s: no ConfigMap %s", name, s.ConfigMap.Name)
					}
				}
			}
			for _, c := range containers(d) {
				for _, v := range c.VolumeMounts {
					if _, ok := volumes[v.Name]; !ok {
						t.Errorf("%s: no volume %s", name, v.Name)
					}
					volumes[v.Name] = true
				}
				for _, from := range c.EnvFrom {
					if r := from.ConfigMapRef; r != nil && m.configMaps[r.Name] == nil {
						t.Errorf("%s: no ConfigMap %s", name, r.Name)
					}
					if r := from.SecretRef; r != nil && m.secrets[r.Name] == nil {
						t.Errorf("%s: no Secret %s", name, r.Name)
					}
				}
				for _, e := range c.Env {
					if e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil {
						continue
					}
					r := e.ValueFrom.SecretKeyRef
					if s := m.secrets[r.Name]; s == nil || len(s.Data[r.Key]) == 0 {
						t.Errorf("%s: no key %s in the Secret %s", name, r.Key, r.Name)
					}
				}
			}
			for v, used := range volumes {
				if !used {
					t.Errorf("%s: nobody uses the volume %s", name, v)
				}
			}
		}
		for name := range m.configMaps {
			if !regexp.MustCompile(`-[a-z0-9]{10}$`).MatchString(name) {
				t.Errorf("%s: a change of it would not roll the pods", name)
			}
		}
	})
}

// The operator's rules are those of the rule file, copied by go test -update.
func TestPrometheusRule(t *testing.T) {
	const rules, copied = repo + "/deploy/prometheus/rules.yml", repo + "/" + manifest + "/components/servicemonitor/prometheusrule.yaml"
	text, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("# Made from deploy/prometheus/rules.yml by go test ./... -run TestPrometheusRule -update in test/k8s.\n" +
		"apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: gateway\n  labels: {app.kubernetes.io/name: gateway}\nspec:\n")
	for line := range strings.Lines(string(text)) {
		if strings.TrimSpace(line) != "" {
			b.WriteString("  ")
		}
		b.WriteString(line)
	}
	if *update {
		if err := os.WriteFile(copied, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(copied); err != nil || string(got) != b.String() {
		t.Errorf("%s is not what follows from %s: go test -run TestPrometheusRule -update (%v)", copied, rules, err)
	}
}

var update = flag.Bool("update", false, "write the PrometheusRule anew")

func TestProbes(t *testing.T) {
	each(t, func(t *testing.T, m *model) {
		for name, d := range m.deployments {
			for _, c := range containers(d) {
				if c.ReadinessProbe == nil || c.LivenessProbe == nil {
					t.Errorf("%s is not watched", name)
				}
				for _, p := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
					if p != nil && p.HTTPGet != nil && port(d, p.HTTPGet.Port) == 0 {
						t.Errorf("%s: no port %s", name, p.HTTPGet.Port.String())
					}
					if p != nil && p.TCPSocket != nil && port(d, p.TCPSocket.Port) == 0 {
						t.Errorf("%s: no port %s", name, p.TCPSocket.Port.String())
					}
				}
			}
		}
		_, c := m.gateway()
		for probe, path := range map[*corev1.Probe]string{c.StartupProbe: "/healthz", c.LivenessProbe: "/healthz", c.ReadinessProbe: "/readyz"} {
			if probe.HTTPGet.Path != path || probe.HTTPGet.Port.StrVal != "internal" {
				t.Errorf("%+v, want %s", probe.HTTPGet, path)
			}
		}
		// README, "When Redis or PostgreSQL is away".
		if r := c.ReadinessProbe; r.FailureThreshold*r.PeriodSeconds < 60 {
			t.Error("a failover would take all nodes out of the Service")
		}
	})
}

func TestResources(t *testing.T) {
	each(t, func(t *testing.T, m *model) {
		for name, d := range m.deployments {
			for _, c := range containers(d) {
				r := c.Resources
				if r.Requests.Cpu().IsZero() || r.Requests.Memory().IsZero() || r.Limits.Memory().IsZero() {
					t.Errorf("%s: resources %+v", name, r)
				}
				if !r.Limits.Cpu().IsZero() {
					t.Errorf("%s is throttled", name)
				}
			}
			for _, v := range d.Spec.Template.Spec.Volumes {
				if v.EmptyDir != nil && v.EmptyDir.SizeLimit == nil {
					t.Errorf("%s: the volume %s has no end", name, v.Name)
				}
			}
		}
		_, c := m.gateway()
		env := m.environment(t)
		if q := c.Resources.Requests[corev1.ResourceMemory]; env["GOMEMLIMIT"] != q.String() {
			t.Errorf("GOMEMLIMIT=%s, memory %s", env["GOMEMLIMIT"], q.String())
		}
		// The sum of docs/kubernetes.md, in bytes, from bench/RESULTS.md: one in ten polls.
		const process, webSocket, waitingPoll, kernel = 32 << 20, 6.7e3, 33e3, 5e3
		n := number(t, env, "GATEWAY_MAX_SESSIONS")
		heap, sockets := process+n*(0.9*webSocket+0.1*waitingPoll), n*kernel
		request, limit := float64(c.Resources.Requests.Memory().Value()), float64(c.Resources.Limits.Memory().Value())
		if heap > 0.6*request || sockets > limit-request {
			t.Errorf("%v sessions: %.0f bytes of heap (of %.0f), %.0f of sockets (of %.0f)", n, heap, request, sockets, limit-request)
		}
		for _, h := range all[*autoscalingv2.HorizontalPodAutoscaler](t, m.objects) {
			for _, metric := range h.Spec.Metrics {
				// With one pod of three gone the other two take one and a half times what they had.
				if metric.Pods != nil && metric.Pods.Target.AverageValue.AsApproximateFloat64()*1.5 > n {
					t.Error("a pod that is lost would not fit into the others")
				}
			}
		}
	})
}

func number(t *testing.T, env map[string]string, name string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(env[name], 64)
	if err != nil {
		t.Errorf("%s=%q", name, env[name])
	}
	return n
}

func duration(t *testing.T, env map[string]string, name, def string) time.Duration {
	t.Helper()
	text, ok := env[name]
	if !ok {
		text = def
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Errorf("%s=%q", name, text)
	}
	return d
}

func TestDrainFitsIntoTheGracePeriod(t *testing.T) {
	each(t, func(t *testing.T, m *model) {
		env := m.environment(t)
		delay := duration(t, env, "GATEWAY_SHUTDOWN_DELAY", "0s")
		timeout := duration(t, env, "GATEWAY_SHUTDOWN_TIMEOUT", "30s")
		window := duration(t, env, "GATEWAY_DRAIN_WINDOW", "10s")
		spec, c := m.gateway()
		const margin = 15 * time.Second
		if grace := time.Duration(*spec.TerminationGracePeriodSeconds) * time.Second; grace < delay+timeout+margin {
			t.Errorf("killed after %v, drained within %v + %v", grace, delay, timeout)
		}
		if window >= timeout*3/4 {
			t.Errorf("a window of %v within %v", window, timeout)
		}
		// README, "Balancers".
		if ping := duration(t, env, "GATEWAY_PING_INTERVAL", "25s"); delay <= ping {
			t.Errorf("polls of %v outlast the delay of %v", ping, delay)
		}
		if c.Lifecycle != nil {
			t.Error("a hook would wait beside GATEWAY_SHUTDOWN_DELAY")
		}
	})
}

func TestScalingIsSlowDownwards(t *testing.T) {
	each(t, func(t *testing.T, m *model) {
		d := m.deployments["gateway"].Spec
		if r := d.Strategy.RollingUpdate; r.MaxUnavailable.IntVal != 0 || r.MaxUnavailable.Type != intstr.Int || r.MaxSurge.IntVal != 1 || d.MinReadySeconds < 5 {
			t.Errorf("rolled by %+v, %d s", r, d.MinReadySeconds)
		}
		h := all[*autoscalingv2.HorizontalPodAutoscaler](t, m.objects)["gateway"]
		if h == nil {
			t.Fatal("no autoscaler")
		}
		if d.Replicas != nil {
			t.Error("kubectl apply would undo what the autoscaler did")
		}
		down := h.Spec.Behavior.ScaleDown
		if *h.Spec.MinReplicas < 3 || *down.StabilizationWindowSeconds < 300 || len(down.Policies) != 1 ||
			down.Policies[0] != (autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: 1, PeriodSeconds: 120}) {
			t.Errorf("scaled down by %+v", down)
		}
		b := all[*policyv1.PodDisruptionBudget](t, m.objects)["gateway"]
		if b == nil || b.Spec.MaxUnavailable.IntVal != 1 {
			t.Errorf("the budget is %+v", b)
		}
	})
}

// A node of another tag than that of its address would not be found by nginx; without nginx a pod's name tells more.
func TestTags(t *testing.T) {
	each(t, func(t *testing.T, m *model) {
		_, c := m.gateway()
		i := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "GATEWAY_NODE" })
		if nginx := m.deployments["nginx"] != nil; nginx != (i >= 0) || nginx && c.Env[i].ValueFrom.FieldRef.FieldPath != "status.podIP" {
			t.Errorf("%v", c.Env)
		}
		headless := m.services["gateway-headless"].Spec
		if headless.ClusterIP != corev1.ClusterIPNone || !headless.PublishNotReadyAddresses {
			t.Error("nodes that drain cannot be found")
		}
		for _, name := range []string{"gateway", "gateway-internal"} {
			if m.services[name].Spec.PublishNotReadyAddresses {
				t.Errorf("%s leads to nodes that are not ready", name)
			}
		}
	})
}

// The program itself says which variables there are, and whether their values are right.
func TestVariables(t *testing.T) {
	known := regexp.MustCompile(`GATEWAY_[A-Z0-9_]+`).FindAllString(run(t, nil, "-help"), -1)
	if len(known) < 50 {
		t.Fatalf("%d variables: %q", len(known), known)
	}
	each(t, func(t *testing.T, m *model) {
		env := m.environment(t)
		for name := range env {
			if strings.HasPrefix(name, "GATEWAY_") && !slices.Contains(known, name) {
				t.Errorf("the gateway does not know %s", name)
			}
		}
		// One that is wrong on purpose keeps it from starting. It names all that are wrong.
		delete(env, "GOMEMLIMIT") // a quantity of Kubernetes here, a number in a pod
		env["GATEWAY_LOG_FORMAT"] = "wrong"
		out := strings.TrimSpace(run(t, env))
		if !strings.Contains(out, "GATEWAY_LOG_FORMAT: ") || len(regexp.MustCompile(`GATEWAY_[A-Z_]+: `).FindAllString(out, -1)) != 1 {
			t.Errorf("%s", out)
		}
		delete(env, "GATEWAY_LOG_FORMAT")
		env["GATEWAY_PEER_SECRET"] = "CHANGE-ME"
		if out := run(t, env); !strings.Contains(out, "GATEWAY_PEER_SECRET: ") {
			t.Errorf("starts with the secret of the example: %s", out)
		}
	})
}

var gateway = sync.OnceValues(func() (string, error) {
	file, err := filepath.Abs(filepath.Join(repo, "bin/gateway-k8s-test"))
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", file, "./cmd/gateway")
	cmd.Dir = repo
	if out, err := cmd.CombinedOutput(); err != nil {
		return string(out), err
	}
	return file, nil
})

// run runs the gateway, which has to end by itself, and returns what it writes.
func run(t *testing.T, env map[string]string, args ...string) string {
	t.Helper()
	file, err := gateway()
	if err != nil {
		t.Fatal(file, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, file, args...)
	cmd.Env = []string{"GATEWAY_ADDR=127.0.0.1:0", "GATEWAY_ADMIN_ADDR=127.0.0.1:0"}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+strings.ReplaceAll(value, "$(", "("))
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); ctx.Err() != nil || err != nil && len(args) > 0 {
		t.Fatalf("%v: %s", err, &out)
	}
	return out.String()
}
