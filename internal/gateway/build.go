package gateway

import (
	"cmp"
	"runtime"
	"runtime/debug"
	"strings"
)

// Build is what a program was made of.
type Build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"` // 12 digits, with +dirty if files had changed since
	Go       string `json:"go"`
	Platform string `json:"platform"` // os/arch
}

const unknownBuild = "unknown"

// NewBuild returns what this program was made of. What its linker was told, if anything, counts more than what the go command
// has put in: that one may have had no repository to look at.
func NewBuild(version, commit string) Build {
	b := Build{Version: version, Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	set := make(map[string]string)
	for _, s := range info.Settings {
		set[s.Key] = s.Value
	}
	if b.Commit == "" && set["vcs.revision"] != "" {
		b.Commit = shortCommit(set["vcs.revision"])
		if set["vcs.modified"] == "true" {
			b.Commit += "+dirty"
		}
	}
	b.Commit = cmp.Or(shortCommit(b.Commit), unknownBuild)
	if info.Main.Version != "(devel)" {
		b.Version = cmp.Or(b.Version, info.Main.Version)
	}
	b.Version = cmp.Or(b.Version, "devel")
	return b
}

// shortCommit cuts a hash to the 12 digits that everybody knows it by.
func shortCommit(commit string) string {
	const hash, short = 40, 12
	if len(commit) >= hash && !strings.ContainsFunc(commit[:hash], func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) }) {
		return commit[:short] + commit[hash:]
	}
	return commit
}

// String returns a line for a person.
func (b Build) String() string {
	return b.Version + " (commit " + b.Commit + ", " + b.Go + ", " + b.Platform + ")"
}
