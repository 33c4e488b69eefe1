// The current Prometheus, built from its module as receiver, peer and oracle
// of the end-to-end tests. A module of its own, so that what Prometheus needs
// never enters the agent's.
module promagent/test/peers

go 1.26.0
