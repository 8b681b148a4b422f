package k8s_test

import (
	"bufio"
	"bytes"
	"maps"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func newReader(b []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(b)) }

// model is what an overlay builds, by kind and name.
type model struct {
	objects     []object
	deployments map[string]*appsv1.Deployment
	services    map[string]*corev1.Service
	configMaps  map[string]*corev1.ConfigMap
	secrets     map[string]*corev1.Secret
	accounts    map[string]*corev1.ServiceAccount
}

func newModel(t *testing.T, objects []object) *model {
	t.Helper()
	m := &model{
		objects:     objects,
		deployments: all[*appsv1.Deployment](t, objects), services: all[*corev1.Service](t, objects),
		configMaps: all[*corev1.ConfigMap](t, objects), secrets: all[*corev1.Secret](t, objects),
		accounts: all[*corev1.ServiceAccount](t, objects),
	}
	if len(objects) < 10 || m.deployments["gateway"] == nil {
		t.Fatalf("%d objects", len(objects))
	}
	return m
}

func all[T object](t *testing.T, objects []object) map[string]T {
	t.Helper()
	found := make(map[string]T)
	for _, o := range objects {
		if v, ok := o.(T); ok {
			if _, twice := found[v.GetName()]; twice {
				t.Errorf("two of %s", v.GetName())
			}
			found[v.GetName()] = v
		}
	}
	return found
}

// selected are the Deployments whose pods a selector means. One that is empty means all.
func (m *model) selected(t *testing.T, s *metav1.LabelSelector) (found []*appsv1.Deployment) {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(m.deployments)) {
		if d := m.deployments[name]; selector.Matches(labels.Set(d.Spec.Template.Labels)) {
			found = append(found, d)
		}
	}
	return found
}

// port returns the number of a port of a pod, 0 if it has none of that name or number.
func port(d *appsv1.Deployment, p intstr.IntOrString) int32 {
	for _, c := range d.Spec.Template.Spec.Containers {
		for _, cp := range c.Ports {
			if p.Type == intstr.String && cp.Name == p.StrVal || p.Type == intstr.Int && cp.ContainerPort == p.IntVal {
				return cp.ContainerPort
			}
		}
	}
	return 0
}

func (m *model) gateway() (*corev1.PodSpec, *corev1.Container) {
	spec := &m.deployments["gateway"].Spec.Template.Spec
	return spec, &spec.Containers[0]
}

// environment is what the gateway gets to see, but for what only a running pod knows.
func (m *model) environment(t *testing.T) map[string]string {
	t.Helper()
	env := make(map[string]string)
	_, c := m.gateway()
	for _, from := range c.EnvFrom {
		if r := from.ConfigMapRef; r != nil {
			maps.Copy(env, m.configMaps[r.Name].Data)
		}
		if r := from.SecretRef; r != nil {
			for name, value := range m.secrets[r.Name].Data {
				env[name] = string(value)
			}
		}
	}
	for _, e := range c.Env {
		switch from := e.ValueFrom; {
		case from == nil:
			env[e.Name] = e.Value // $(NAME) stays: no check of ours reads through it
		case from.SecretKeyRef != nil:
			env[e.Name] = string(m.secrets[from.SecretKeyRef.Name].Data[from.SecretKeyRef.Key])
		case from.FieldRef != nil && from.FieldRef.FieldPath == "status.podIP":
			env[e.Name] = "10.1.2.3"
		case from.ResourceFieldRef != nil && from.ResourceFieldRef.Resource == "requests.memory":
			q := c.Resources.Requests[corev1.ResourceMemory]
			env[e.Name] = q.String()
		default:
			t.Errorf("%s comes from something unexpected", e.Name)
		}
	}
	return env
}
