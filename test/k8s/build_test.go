package k8s_test
import ("testing";"os";"path/filepath"
"sigs.k8s.io/kustomize/api/krusty"
"sigs.k8s.io/kustomize/kyaml/filesys"
_ "k8s.io/api/apps/v1"
_ "sigs.k8s.io/gateway-api/apis/v1"
_ "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)
func TestX(t *testing.T){
 dir:=os.Getenv("D")
 k:=krusty.MakeKustomizer(krusty.MakeDefaultOptions())
 m,err:=k.Run(filesys.MakeFsOnDisk(), filepath.Clean(dir)); if err!=nil{t.Fatal(err)}
 y,_:=m.AsYaml(); os.WriteFile("/tmp/k8stmp/out.yaml",y,0o644)
}
