package wal

import (
	"math"
	"testing"
	"time"
)

func TestForecastOfWhatIsNeeded(t *testing.T) {
	begin := time.Unix(1_700_000_000, 0)
	inf := math.Inf(1)
	for _, c := range []struct {
		name   string
		after  time.Duration
		needed func(s float64) float64 // bytes after so many seconds
		room   int64
		want   float64 // seconds until there is no room
	}{
		{"nothing yet", time.Second, func(s float64) float64 { return 100 * s }, 1000, inf},
		{"too early to say", 18 * time.Second, func(s float64) float64 { return 100 * s }, 1000, inf},
		{"steady growth", 10 * time.Minute, func(s float64) float64 { return 100 * s }, 100_000, 1000},
		{"steady growth since the start", 40 * time.Second, func(s float64) float64 { return 100 * s }, 100_000, 1000},
		{"no room", 10 * time.Minute, func(s float64) float64 { return 100 * s }, 0, 0},
		{"nothing is left behind", 10 * time.Minute, func(float64) float64 { return 0 }, 1000, inf},
		{"a backlog that stays", 10 * time.Minute, func(float64) float64 { return 1 << 40 }, 1000, inf},
		{"a backlog that drains", 10 * time.Minute, func(s float64) float64 { return 1e9 - 100*s }, 1000, inf},
		{"scrapes every minute, sent within 10 s", 10 * time.Minute, func(s float64) float64 {
			if math.Mod(s, 60) < 10 {
				return 1e6
			}
			return 0
		}, 1000, inf},
		{"scrapes every minute, not sent", 10 * time.Minute, func(s float64) float64 { return 6000 * math.Floor(s/60) }, 100_000, 1000},
		{"an outage for a minute", 10 * time.Minute, func(s float64) float64 { return max(0, s-540) * 100 }, 1000, inf},
		{"an outage for four minutes", 10 * time.Minute, func(s float64) float64 { return max(0, s-360) * 100 }, 100_000, 1000},
		{"an outage for an hour", 2 * time.Hour, func(s float64) float64 { return max(0, s-3600) * 100 }, 100_000, 1000},
		{"growth that has ended", 2 * time.Hour, func(s float64) float64 { return min(s, 3600) * 100 }, 100_000, inf},
		{"half is sent", 10 * time.Minute, func(s float64) float64 { return 50 * s }, 100_000, 2000},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f forecast
			now := begin
			for ; now.Sub(begin) <= c.after; now = now.Add(time.Second) {
				f.note(now, int64(c.needed(now.Sub(begin).Seconds())))
			}
			got := fullIn(f.rate(now), c.room)
			if got != c.want && !(math.Abs(got-c.want) <= c.want/5) {
				t.Errorf("got %v s, want %v s", got, c.want)
			}
			if n := len(f.bins); n > int(forecastSpan/forecastBin)+2 {
				t.Errorf("%d levels are kept", n)
			}
		})
	}
}

func TestForecastGoesOnAfterAGap(t *testing.T) {
	var f forecast
	now := time.Unix(1_700_000_000, 0)
	note := func(d time.Duration, rate int64) {
		for end := now.Add(d); now.Before(end); now = now.Add(time.Second) {
			f.note(now, now.Unix()*rate)
		}
	}
	note(10*time.Minute, 100)
	now = now.Add(3 * time.Hour) // the machine slept
	note(10*time.Minute, 100)
	if got := f.rate(now); got < 80 || got > 120 {
		t.Errorf("%v bytes per second, want 100", got)
	}
}

func TestRoomOfTheLog(t *testing.T) {
	for _, c := range []struct {
		name         string
		limit, bytes int64
		free, total  uint64
		reserve      float64
		want         int64
	}{
		{"to the limit", 1000, 400, 1 << 30, 1 << 30, 10, 600},
		{"beyond the limit", 1000, 1400, 1 << 30, 1 << 30, 10, 0},
		{"others fill the volume", 1000, 400, 250, 2000, 10, 50},
		{"the volume has less than its reserve", 1000, 400, 100, 2000, 10, 0},
		{"no limit is known", 0, 400, 250, 2000, 10, 50},
		{"the volume is not known", 1000, 400, 0, 0, 10, 600},
	} {
		if got := room(c.limit, c.bytes, c.free, c.total, c.reserve); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
