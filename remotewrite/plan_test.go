package remotewrite

import (
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"promagent/relabel"
	"promagent/remotewrite/wire"
	"promagent/template"
	"promagent/wal"
	"promagent/wal/record"
)

// modelPlan is the plan of a block at a remote without relabelling.
func modelPlan(t *testing.T, b *template.Block) wire.BlockPlan {
	t.Helper()
	return wire.NewPlans(relabel.Rules{}, labels.EmptyLabels()).Block(b)
}

// modelHeader is the entry of a record of n samples whose block is anchored at
// the given offset of its segment.
func modelHeader(at wal.Pos, t int64, n int, anchor uint32) record.Entry {
	return record.Entry{Pos: at, Time: t, Samples: uint32(n), Ref: anchor}
}
