//go:build !all_sd

package discovery

// setUserAgents has nothing to set: the discoveries of this build are told by
// an option of their HTTP client.
func setUserAgents(string) {}
