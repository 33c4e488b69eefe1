package main

import (
	"runtime"

	"github.com/prometheus/common/version"

	"promagent/web"
)

// compatible is the version of Prometheus whose agent mode this is; clients
// that look for features read it from the API.
const compatible = "3.16.0"

// own is prom-agent's version, set by the linker; "dev" in a plain build.
var own = "dev"

// fullVersion carries ours as semver build metadata behind the compatible one.
func fullVersion() string { return compatible + "+prom-agent." + own }

func versionText() string {
	return "prom-agent, version " + fullVersion() + " (branch: " + version.Branch + ", revision: " + version.GetRevision() + ")\n" +
		"  go version: " + runtime.Version() + "\n  platform:   " + runtime.GOOS + "/" + runtime.GOARCH
}

func buildInfo() web.BuildInfo {
	return web.BuildInfo{
		Version: fullVersion(), Revision: version.GetRevision(), Branch: version.Branch,
		BuildUser: version.BuildUser, BuildDate: version.BuildDate, GoVersion: version.GoVersion,
	}
}
