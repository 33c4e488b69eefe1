//go:build peers

// Package peers pins the programs that the end-to-end tests run beside the agent.
package peers

import _ "github.com/prometheus/prometheus/cmd/prometheus"
