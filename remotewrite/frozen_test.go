package remotewrite

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"promagent/template"
	"promagent/wal"
)

func TestAFrozenBatchIsReadBackFromItsRequest(t *testing.T) {
	plan := modelPlan(t, oneMetric(40))
	start := wal.Pos{Segment: 1, Offset: 48}
	span := Span{Window, start, start, 0}
	led := newLedger(State{Spans: []Span{span}, Ats: []At{span.begin()}}, limits{batch: 1000}, time.Now())
	values := []float64{0, math.Copysign(0, -1), 1, math.Pi, math.Inf(1), math.NaN(), math.Float64frombits(template.StaleNaN)}
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		v2, started := seed%2 == 0, seed%3 == 0
		batch := led.newBatch()
		for slot := range 80 { // of two steps
			slot %= 40
			at := rnd.Int64N(5) - 2
			for range rnd.IntN(9) {
				st := int64(0)
				if started {
					st = rnd.Int64N(3)
				}
				batch.add(plan, slot, at, values[rnd.IntN(len(values))], st)
				at += 1 + rnd.Int64N(1<<40)
			}
		}
		want := columns{append([]uint16(nil), batch.slots...), append([]int64(nil), batch.times...), append([]float64(nil), batch.values...), append([]int64(nil), batch.starts...)}
		if want.starts = zeroless(want.starts); !v2 && want.starts != nil {
			if batch.mayFreeze(batch.samples(), v2) {
				t.Fatalf("seed %d: 1.x has no starts", seed)
			}
			continue
		}
		ps := newPresses(v2)
		pr := ps.take()
		samples, _, _ := pr.encode(batch, part{0, batch.samples()}, math.MinInt64)
		if !batch.mayFreeze(samples, v2) {
			t.Fatalf("seed %d: all of the batch is in its request", seed)
		}
		batch.packed = pr.pack(seed%5 == 0)
		led.freeze(batch)
		if batch.times != nil || len(led.columns) != 1 {
			t.Fatal("a frozen batch has columns, or they are not used again")
		}
		led.thaw(batch, batch.melted(v2))
		if bits(batch.columns) != bits(want) {
			t.Errorf("seed %d: got %v, want %v", seed, batch.columns, want)
		}
	}
}

// zeroless is nil for starts of which none is known.
func zeroless(starts []int64) []int64 {
	for _, s := range starts {
		if s != 0 {
			return starts
		}
	}
	return nil
}

// bits are columns as they can be compared, NaNs included.
func bits(c columns) string {
	s := fmt.Sprintln(c.slots)
	for i, v := range c.values {
		s += strconv.FormatInt(c.times[i], 10) + " " + strconv.FormatUint(math.Float64bits(v), 16) + "\n"
	}
	for _, st := range c.starts {
		s += strconv.FormatInt(st, 10) + "\n"
	}
	return s
}

func TestABatchThatIsNotAllInItsRequestIsNotFrozen(t *testing.T) {
	for name, b := range map[string]*batch{
		"too old in part": {columns: columns{slots: make([]uint16, 3)}},
		"exemplars":       {columns: columns{slots: make([]uint16, 2)}, exemplars: make([]batchExemplar, 1)},
	} {
		if b.mayFreeze(2, true) {
			t.Errorf("%s: what is not among the samples of the request would be lost", name)
		}
	}
	if b := (&batch{columns: columns{slots: make([]uint16, 2)}}); !b.mayFreeze(2, false) {
		t.Error("all is in the request")
	}
}

// Attempts after the first one send what was encoded for it; a limit on the age
// needs the samples again.
func TestAnAgeLimitThatIsSwitchedOnWhileABatchIsFrozen(t *testing.T) {
	for _, message := range bothMessages {
		for _, final := range []int{http.StatusNoContent, http.StatusBadRequest, http.StatusRequestEntityTooLarge} {
			t.Run(fmt.Sprint(message, " ", final), func(t *testing.T) {
				l := openLog(t, t.TempDir())
				var status, refused, tries atomic.Int32
				status.Store(http.StatusServiceUnavailable)
				r := newReceiver(t, func(http.ResponseWriter, *request) int {
					tries.Add(1)
					s := int(status.Load())
					if s >= 400 && s < 500 && refused.Add(1) > 6 {
						return http.StatusNoContent
					}
					return s
				})
				cfg := remoteConfig(t, r.srv.URL)
				cfg.ProtobufMessage, cfg.FromOldest = message, true
				cfg.Queue.MinShards, cfg.Queue.MaxShards = 3, 3
				l.clock -= 600_000
				l.noise = true
				for range 8 {
					l.scrape(testTarget("a", 70), testTarget("b", 70))
					l.clock += 15_000
				}
				m := startManager(l, patience, cfg)
				e := endpoints(m)[0]
				for i := range 6 { // on and off
					n := tries.Load()
					eventually(t, "a try", func() bool { return tries.Load() > n })
					cfg.Queue.SampleAgeLimit = time.Hour * time.Duration((i+1)%2)
					m.apply(cfg)
				}
				status.Store(int32(final))
				m.delivered()
				if endpoints(m)[0] != e {
					t.Error("the endpoint was replaced")
				}
				if m.remoteMetric("samples_failed_total") == 0 {
					r.mustHave(l.want)
				} else if final == http.StatusNoContent {
					t.Error("samples were refused")
				}
			})
		}
	}
}
