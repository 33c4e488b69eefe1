package watch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"

	"promagent/discovery/kubernetes/object"
)

func TestUsersOfAQueryShareAStore(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		nodes := Query{Kind: object.KindNode}
		a, _ := r.cluster.Use(nodes)
		b, _ := r.cluster.Use(Query{Kind: object.KindNode, Namespace: "shop"})
		if a != b {
			t.Error("nodes of a namespace are other nodes")
		}
		r.next(t).list(pods("5", ""))
		r.nextWatch(t, "5")
		c, _ := r.cluster.Use(Query{Kind: object.KindNode, Label: "a"})
		if c == a {
			t.Error("another selector gives the same store")
		}
		r.nextList(t, "labelSelector=a&resourceVersion=0")
	})
}

func TestStoreLingersAfterItsLastUser(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		a, release := r.cluster.Use(podQuery)
		_, other := r.cluster.Use(podQuery)
		r.next(t).list(pods("5", "", "a/x=1"))
		w := r.nextWatch(t, "5")
		w.watch()
		release()
		release() // counts once
		time.Sleep(time.Hour / 100)
		if w.req.Context().Err() != nil {
			t.Fatal("the store ended while it had a user")
		}
		other()
		time.Sleep(29 * time.Second)
		// A reload: the same query again, and nothing is listed.
		b, release := r.cluster.Use(podQuery)
		if a != b {
			t.Error("the store did not linger")
		}
		time.Sleep(time.Minute)
		if w.req.Context().Err() != nil {
			t.Fatal("the store ended while it had a user")
		}
		release()
		time.Sleep(29 * time.Second)
		if w.req.Context().Err() != nil {
			t.Fatal("the store ended early")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if w.req.Context().Err() == nil {
			t.Error("the watch goes on without users")
		}
		c, _ := r.cluster.Use(podQuery)
		if c == a {
			t.Error("a store that ended is used again")
		}
		r.nextList(t, "resourceVersion=0")
	})
}

func TestStoreWithoutLingerEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Linger: -1})
		_, release := r.cluster.Use(podQuery)
		c := r.next(t)
		release()
		synctest.Wait()
		if c.req.Context().Err() == nil {
			t.Error("the list goes on without users")
		}
		if r.failed() != 0 {
			t.Error("an end that was asked for is a failure")
		}
	})
}

// TestUseBeforeRun starts what is in use when Run begins, and no more.
func TestUseBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{media: protobufType, calls: make(chan *call)}
		client, err := NewClient(&rest.Config{Host: "http://api", Transport: a})
		if err != nil {
			t.Fatal(err)
		}
		c := NewCluster(client, Options{Decode: decodeThing})
		s, _ := c.Use(podQuery)
		_, release := c.Use(Query{Kind: object.KindNode})
		release()
		time.Sleep(time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		a.next(t).list(pods("5", "", "a/x=1"))
		<-s.Synced()
		watch := a.nextWatch(t, "5")
		watch.watch()
		if err := c.Run(ctx); err == nil {
			t.Error("a second Run gives no error")
		}
		_, late := c.Use(Query{Kind: object.KindService})
		a.next(t)
		late() // its linger time goes on when Run ends
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if watch.req.Context().Err() == nil {
			t.Error("the watch goes on after Run")
		}
		want(t, s, "a/x=1")
		// After the end stores are empty, and nothing starts.
		_, release = c.Use(Query{Kind: object.KindJob})
		synctest.Wait()
		release()
	})
}

func TestUnknownKindPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	NewCluster(nil, Options{}).Use(Query{Kind: 99})
}
