package k8s_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const (
	repo     = "../.."
	manifest = "deploy/k8s"
	secret   = "0123456789abcdef0123456789abcdef" // what the examples' CHANGE-ME becomes
)

// variants are combinations that are no overlay but that the documentation speaks of.
var variants = map[string]string{
	"postgres-nginx": "namespace: patchbay\nresources: [../postgres]\ncomponents: [../../components/nginx]\n",
	"monitored":      "namespace: patchbay\nresources: [../redis]\ncomponents: [../../components/servicemonitor, ../../components/sessions-autoscaling]\n",
}

// tree is deploy/ in memory, with the variants, and with or without the secrets.
func tree(t testing.TB, secrets bool) filesys.FileSystem {
	t.Helper()
	mem := filesys.MakeFsInMemory()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	root := os.DirFS(repo)
	must(fs.WalkDir(root, "deploy", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Base(name) == "secrets.env" { // that one is the developer's own
			return err
		}
		data, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		if file, ok := strings.CutSuffix(name, ".example"); ok && secrets {
			must(mem.WriteFile("/"+file, bytes.ReplaceAll(data, []byte("CHANGE-ME"), []byte(secret))))
		}
		return mem.WriteFile("/"+name, data)
	}))
	for name, text := range variants {
		must(mem.WriteFile(path.Join("/", manifest, "overlays", name, "kustomization.yaml"), []byte(text)))
	}
	return mem
}

// write puts files on a disk, for who reads them there.
func write(t testing.TB, files filesys.FileSystem) (dir string) {
	t.Helper()
	dir = t.TempDir()
	err := files.Walk("/", func(name string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		data, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		return errors.Join(os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755), os.WriteFile(filepath.Join(dir, name), data, 0o600))
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// builds are the names of all overlays and variants.
func builds(t testing.TB) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(repo, manifest, "overlays"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	for name := range variants {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func build(files filesys.FileSystem, name string) ([]byte, error) {
	m, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, path.Join("/", manifest, "overlays", name))
	if err != nil {
		return nil, err
	}
	return m.AsYaml()
}

var scheme = sync.OnceValue(func() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, autoscalingv2.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme,
		monitoringv1.AddToScheme, gatewayv1.Install,
	} {
		if err := add(s); err != nil {
			panic(err)
		}
	}
	return s
})

type object interface {
	runtime.Object
	metav1.Object
}

// decode is strict: a field that the API does not have is an error, and so is one that is there twice.
func decode(text []byte) (all []object, err error) {
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme(), scheme(), json.SerializerOptions{Yaml: true, Strict: true})
	for document, err := range documents(text) {
		if err != nil {
			return nil, err
		}
		o, _, err := strict.Decode(document, nil, nil)
		if err != nil {
			return nil, err
		}
		all = append(all, o.(object))
	}
	return all, nil
}

func documents(text []byte) func(func([]byte, error) bool) {
	return func(yield func([]byte, error) bool) {
		r := utilyaml.NewYAMLReader(newReader(text))
		for {
			document, err := r.Read()
			if errors.Is(err, io.EOF) || !yield(document, err) || err != nil {
				return
			}
		}
	}
}

// built is what each has built before, by name. No tests run beside each other here.
var built = make(map[string][]byte)

// each runs a test on what each overlay builds.
func each(t *testing.T, f func(t *testing.T, m *model)) {
	t.Helper()
	var files filesys.FileSystem
	for _, name := range builds(t) {
		if built[name] == nil {
			if files == nil {
				files = tree(t, true)
			}
			text, err := build(files, name)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			built[name] = text
		}
		t.Run(name, func(t *testing.T) {
			objects, err := decode(built[name])
			if err != nil {
				t.Fatal(err)
			}
			f(t, newModel(t, objects))
		})
	}
}

// A key that is there twice is lost when kustomize reads the file: this looks at the files themselves.
func TestSourcesAreStrictYAML(t *testing.T) {
	files := 0
	err := filepath.WalkDir(filepath.Join(repo, manifest), func(name string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(name) != ".yaml" {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for document, err := range documents(text) {
			if err == nil {
				err = yaml.UnmarshalStrict(document, new(any))
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		files++
		return nil
	})
	if err != nil || files < 10 {
		t.Errorf("%d files: %v", files, err)
	}
}

// The checks below are worth nothing if decoding lets everything through.
func TestDecodeIsStrict(t *testing.T) {
	for _, text := range []string{
		"apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a}\nautomount: false\n",
		"apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a, name: b}\n",
		"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: http}]}\n",
		"apiVersion: v2\nkind: Service\nmetadata: {name: a}\n",
	} {
		if o, err := decode([]byte(text)); err == nil {
			t.Errorf("accepted: %q as %+v", text, o)
		}
	}
}

func TestEachComponentIsBuilt(t *testing.T) {
	var used strings.Builder
	err := filepath.WalkDir(filepath.Join(repo, manifest, "overlays"), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "kustomization.yaml" {
			return err
		}
		text, err := os.ReadFile(name)
		used.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range variants {
		used.WriteString(text)
	}
	entries, err := os.ReadDir(filepath.Join(repo, manifest, "components"))
	if err != nil || len(entries) == 0 {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.Contains(used.String(), "components/"+e.Name()) {
			t.Errorf("no overlay and no variant has %s", e.Name())
		}
	}
}

// Nobody runs with secrets that are written in a repository.
func TestSecretsHaveToBeSet(t *testing.T) {
	bare := tree(t, false)
	for _, name := range builds(t) {
		if _, err := build(bare, name); err == nil || !strings.Contains(err.Error(), "secrets.env") {
			t.Errorf("%s without secrets.env: %v", name, err)
		}
	}
	if out, err := exec.Command("git", "check-ignore", filepath.Join(repo, manifest, "overlays/redis/secrets.env")).CombinedOutput(); err != nil {
		t.Errorf("git would take secrets.env: %v %s", err, out)
	}
}

// kubectl has a kustomize of its own.
func TestKubectlBuildsTheSame(t *testing.T) {
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Log("no kubectl on the PATH: only the library was asked")
		return
	}
	files := tree(t, true)
	dir := write(t, files)
	for _, name := range builds(t) {
		out, err := exec.Command(kubectl, "kustomize", filepath.Join(dir, manifest, "overlays", name)).Output()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		theirs, err := decode(out)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, err := build(files, name)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := decode(text)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(byID(theirs), byID(ours)) {
			t.Errorf("%s: kubectl builds something else", name)
		}
	}
}

func byID(objects []object) map[string]object {
	all := make(map[string]object)
	for _, o := range objects {
		all[o.GetObjectKind().GroupVersionKind().Kind+"/"+o.GetName()] = o
	}
	return all
}
