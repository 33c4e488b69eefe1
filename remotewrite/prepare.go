package remotewrite

import (
	"errors"
	"fmt"

	"promagent/relabel"
)

// prepared is a block and all that its remote is delivered to with. It is made
// once, before it is put into force, and never written to.
type prepared struct {
	cfg    *Config
	rules  relabel.Rules
	client *Client
}

func prepare(cfg *Config, userAgent string) (*prepared, error) {
	client, clientErr := NewClient(*cfg, userAgent)
	rules, rulesErr := compileRules(cfg)
	if err := errors.Join(clientErr, rulesErr); err != nil {
		if client != nil {
			client.close()
		}
		return nil, err
	}
	return &prepared{cfg, rules, client}, nil
}

// prepareAll makes what blocks need, and says all that is wrong with them.
func prepareAll(cfgs []Config, userAgent string) ([]*prepared, error) {
	hashes, names := map[string]bool{}, map[string]bool{}
	for i := range cfgs {
		c := &cfgs[i]
		if c.Hash != "" && hashes[c.Hash] {
			return nil, fmt.Errorf("duplicate remote write configs are not allowed, found duplicate for URL: %s", c.URL.Redacted())
		}
		if names[c.RemoteName] {
			return nil, fmt.Errorf("two remote write configs would have the name %q in metrics: give the one of URL %s another name", c.RemoteName, c.URL.Redacted())
		}
		hashes[c.Hash], names[c.RemoteName] = true, true
	}
	var all []*prepared
	var errs []error
	for i := range cfgs {
		made, err := prepare(&cfgs[i], userAgent)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, made)
	}
	if err := errors.Join(errs...); err != nil {
		closeAll(all)
		return nil, err
	}
	return all, nil
}

// closeAll lets go of what nobody delivers with.
func closeAll(all []*prepared) {
	for _, made := range all {
		made.client.close()
	}
}

// Check says what is wrong with blocks, as an agent that starts with them would.
func Check(cfgs []Config) error {
	all, err := prepareAll(cfgs, "")
	closeAll(all)
	return err
}

func compileRules(cfg *Config) (relabel.Rules, error) {
	rules, err := relabel.Compile(cfg.WriteRelabel)
	if err != nil {
		return relabel.Rules{}, fmt.Errorf("write_relabel_configs of remote %s: %w", cfg.RemoteName, err)
	}
	return rules, nil
}
