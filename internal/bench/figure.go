package main

import "slices"

// Figure is what several runs measured of one thing.
type Figure struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// figureOf returns the figure of the runs' values, of which there is at least one.
func figureOf(values []float64) Figure {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return Figure{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Min: sorted[0], Max: sorted[n-1]}
}

// figure returns the figure of one value of each run.
func figure[R any](runs []R, value func(R) float64) Figure {
	values := make([]float64, len(runs))
	for i, run := range runs {
		values[i] = value(run)
	}
	return figureOf(values)
}
