// Package k8s holds the tests of deploy/k8s: build_test.go and rules_test.go read the manifests and need nothing else,
// live_test.go (build tag live) runs them on a cluster. It is a module of its own, to keep what Kubernetes needs out of ours.
package k8s
