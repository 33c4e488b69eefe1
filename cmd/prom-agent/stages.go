package main

import (
	"context"
	"fmt"
	"sync"
)

// stages runs the agent's parts and stops them one after the other, in the
// order in which a sample meets them.
type stages struct {
	base    context.Context // outlives the signal that ends the agent: each stage is ended by name
	failed  chan error
	wg      sync.WaitGroup
	running []stage
}

type stage struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
}

func newStages(ctx context.Context) *stages {
	return &stages{base: context.WithoutCancel(ctx), failed: make(chan error, 16)}
}

// start runs a stage. One that ends with an error before it was told to ends the agent.
func (s *stages) start(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(s.base)
	st := stage{name, cancel, make(chan struct{})}
	s.running = append(s.running, st)
	s.wg.Go(func() {
		defer close(st.done)
		if err := run(ctx); err != nil && ctx.Err() == nil {
			s.failed <- fmt.Errorf("%s: %w", name, err)
		}
	})
}

// stop ends the named stage and waits for it.
func (s *stages) stop(name string) {
	for _, st := range s.running {
		if st.name == name {
			st.cancel()
			<-st.done
		}
	}
}

// stopAll ends what still runs, last started first.
func (s *stages) stopAll() {
	for i := len(s.running) - 1; i >= 0; i-- {
		s.running[i].cancel()
		<-s.running[i].done
	}
	s.wg.Wait()
}
