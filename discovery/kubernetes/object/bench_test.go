package object

import (
	"runtime"
	"testing"
)

// BenchmarkDecode decodes typical objects and tells how long their messages
// are and what is kept of them.
func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct {
		kind Kind
		from library
	}{{KindPod, typicalPod()}, {KindNode, typicalNode()}, {KindEndpointSlice, typicalSlice()}} {
		b.Run(c.kind.String(), func(b *testing.B) {
			raw := encoded(b, c.from)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Decode(c.kind, raw); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			b.ReportMetric(kept(c.kind, raw), "keptB")
			b.ReportMetric(float64(len(raw)), "messageB")
		})
	}
}

// kept is how many bytes of the heap one object takes.
func kept(kind Kind, raw []byte) float64 {
	objects := make([]Object, 1000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range objects {
		objects[i], _, _ = Decode(kind, raw)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(objects)
	return float64(after.HeapAlloc-before.HeapAlloc) / float64(len(objects))
}

func TestPodTakesFewAllocationsAndLittleMemory(t *testing.T) {
	raw := encoded(t, typicalPod())
	if n := testing.AllocsPerRun(100, func() { decoded(t, KindPod, raw) }); n > 8 {
		t.Errorf("%v allocations, want 8 at most", n)
	}
	if n := kept(KindPod, raw); n > 1600 {
		t.Errorf("%.0f bytes of %d are kept, want 1600 at most", n, len(raw))
	}
}
