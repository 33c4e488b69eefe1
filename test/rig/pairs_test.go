package main

import (
	"math"
	"testing"
)

func TestIntervalIsThatOfStudent(t *testing.T) {
	mean, half := interval([]float64{1, 2, 3, 4, 5, 6, 7})
	// The standard deviation is 2.1602; divided by the root of 7 it is 0.8165; times 2.447.
	if mean != 4 || math.Abs(half-1.998) > 0.001 {
		t.Errorf("4 ± 1.998 is %v ± %v", mean, half)
	}
}
