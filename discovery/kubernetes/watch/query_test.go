package watch

import (
	"testing"

	"promagent/discovery/kubernetes/object"
)

func TestPathOfQuery(t *testing.T) {
	for want, q := range map[string]Query{
		"/api/v1/nodes":                                         {Kind: object.KindNode, Namespace: "ignored"},
		"/api/v1/namespaces":                                    {Kind: object.KindNamespace},
		"/api/v1/pods":                                          {Kind: object.KindPod},
		"/api/v1/namespaces/a/pods":                             {Kind: object.KindPod, Namespace: "a"},
		"/api/v1/services":                                      {Kind: object.KindService},
		"/api/v1/namespaces/a/endpoints":                        {Kind: object.KindEndpoints, Namespace: "a"},
		"/apis/discovery.k8s.io/v1/endpointslices":              {Kind: object.KindEndpointSlice},
		"/apis/networking.k8s.io/v1/namespaces/a%2Fb/ingresses": {Kind: object.KindIngress, Namespace: "a/b"},
		"/apis/apps/v1/namespaces/a/replicasets":                {Kind: object.KindReplicaSet, Namespace: "a"},
		"/apis/batch/v1/jobs":                                   {Kind: object.KindJob},
	} {
		if got := q.path(); got != want {
			t.Errorf("path of %+v: got %q, want %q", q, got, want)
		}
	}
}
