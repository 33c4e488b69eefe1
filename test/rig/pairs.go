package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
)

// compare runs the rig with two agents in turn, each run in a process of its
// own, and prints what the pairs say. The machine's speed drifts, which hits
// both runs of a pair alike; so the ratios are compared, not the figures.
func compare(a, b string, pairs int) error {
	if pairs < 2 || pairs >= len(quantiles)+2 {
		return fmt.Errorf("-pairs %d: from 2 to %d", pairs, len(quantiles)+1)
	}
	var as, bs []result
	for i := range pairs + 1 {
		x, err := runOnce(a)
		if err != nil {
			return err
		}
		y, err := runOnce(b)
		if err != nil {
			return err
		}
		if i == 0 {
			continue // the warm-up
		}
		as, bs = append(as, x), append(bs, y)
		fmt.Printf("pair %d: CPU %.3f and %.3f s per million samples, RSS %.1f and %.1f MiB\n", i, x.CPUPerM, y.CPUPerM, x.RSSMedian, y.RSSMedian)
	}
	for _, f := range []struct {
		name  string
		value func(result) float64
	}{
		{"CPU s per million samples", func(r result) float64 { return r.CPUPerM }},
		{"RSS median", func(r result) float64 { return r.RSSMedian }},
		{"anonymous memory median", func(r result) float64 { return r.AnonMedian }},
		{"wire bytes per sample", func(r result) float64 { return r.WireBytes }},
		{"disk bytes per sample", func(r result) float64 { return r.DiskBytes }},
	} {
		var logs []float64
		for i := range as {
			if x, y := f.value(as[i]), f.value(bs[i]); x > 0 && y > 0 {
				logs = append(logs, math.Log(x/y))
			}
		}
		if len(logs) < 2 {
			fmt.Printf("%-26s not measured\n", f.name)
			continue
		}
		mean, half := interval(logs)
		fmt.Printf("%-26s ratio %.3f, from %.3f to %.3f\n", f.name, math.Exp(mean), math.Exp(mean-half), math.Exp(mean+half))
	}
	return nil
}

// runOnce runs this command for one agent with the flags that were given.
func runOnce(bin string) (r result, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	args := []string{"-json", "-bin=" + bin}
	flag.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "bin", "vs", "pairs", "json", "name":
		default:
			args = append(args, "-"+f.Name+"="+f.Value.String())
		}
	})
	cmd := exec.Command(self, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("run %s: %w", bin, err)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("run %s: %w", bin, err)
	}
	if r.Missing > 0 || r.Dups > 0 || r.OutOfOrder > 0 || len(r.Errors) > 0 {
		return r, fmt.Errorf("run %s: %d samples missing, %d twice, %d out of order, problems %q", bin, r.Missing, r.Dups, r.OutOfOrder, r.Errors)
	}
	return r, nil
}

// quantiles are those of Student's t distribution at 97.5%, for 1, 2, ... degrees of freedom.
var quantiles = []float64{12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093}

// interval returns the mean of some values, and half the width of its 95% interval.
func interval(values []float64) (mean, half float64) {
	n := float64(len(values))
	for _, v := range values {
		mean += v / n
	}
	var square float64
	for _, v := range values {
		square += (v - mean) * (v - mean)
	}
	return mean, quantiles[len(values)-2] * math.Sqrt(square/(n-1)/n)
}
