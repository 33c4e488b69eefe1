package object

import "slices"

// podDecoder decodes core/v1 Pod.
type podDecoder struct {
	decoder
	containers, inits      arena[Container]
	ports                  arena[ContainerPort]
	statuses, initStatuses arena[containerStatus]

	// Of the pass.
	condition bool // the condition Ready was found
}

// containerStatus is what names a container and what gives its ID, in the
// input.
type containerStatus struct{ name, id []byte }

func decodePod(b []byte) (*Pod, string, error) {
	var d podDecoder
	o := &Pod{}
	d.pod(b, o)
	if d.err == nil {
		d.fill()
		d.ports.fill()
		containers := make([]Container, d.containers.n+d.inits.n)
		d.inits.carve(d.containers.carve(containers))
		d.initStatuses.carve(d.statuses.carve(make([]containerStatus, d.statuses.n+d.initStatuses.n)))
		d.condition = false

		*o = Pod{}
		d.pod(b, o)
		d.identify(d.containers.all, d.statuses.all)
		d.identify(d.inits.all, d.initStatuses.all)
		if len(containers) > 0 {
			o.Containers = containers
		}
	}
	version, err := d.end(&o.Meta)
	return o, version, err
}

func (d *podDecoder) pod(b []byte, o *Pod) {
	for m := open(b); d.next(&m); {
		switch m.num {
		case 1:
			d.meta(d.sub(&m), &o.Meta)
		case 2:
			d.spec(d.sub(&m).only(1<<2|1<<10|1<<20), o)
		case 3:
			d.status(d.sub(&m), o)
		}
	}
}

func (d *podDecoder) spec(m message, o *Pod) {
	for d.next(&m) {
		switch m.num {
		case 2:
			d.container(d.sub(&m).only(1<<1|1<<2|1<<6), d.containers.next())
		case 10:
			o.NodeName = d.text(&m)
		case 20:
			c := d.inits.next()
			c.Init = true
			d.container(d.sub(&m).only(1<<1|1<<2|1<<6), c)
		}
	}
}

func (d *podDecoder) container(m message, c *Container) {
	start := len(d.ports.all)
	for d.next(&m) {
		switch m.num {
		case 1:
			c.Name = d.text(&m)
		case 2:
			c.Image = d.text(&m)
		case 6:
			d.port(d.sub(&m), d.ports.next())
		}
	}
	c.Ports = d.ports.since(start)
}

func (d *podDecoder) port(m message, p *ContainerPort) {
	for d.next(&m) {
		switch m.num {
		case 1:
			p.Name = d.text(&m)
		case 3:
			p.Port = d.int32(&m)
		case 4:
			p.Protocol = d.text(&m)
		}
	}
}

func (d *podDecoder) status(m message, o *Pod) {
	for d.next(&m) {
		switch m.num {
		case 1:
			o.Phase = d.text(&m)
		case 2:
			d.ready(d.sub(&m).only(1<<1|1<<2), o)
		case 5:
			o.HostIP = d.text(&m)
		case 6:
			o.IP = d.text(&m)
		case 8:
			d.containerStatus(d.sub(&m).only(1<<1|1<<8), d.statuses.next())
		case 10:
			d.containerStatus(d.sub(&m).only(1<<1|1<<8), d.initStatuses.next())
		}
	}
}

// ready decodes a condition of a pod, of which the first Ready counts.
func (d *podDecoder) ready(m message, o *Pod) {
	var kind, status []byte
	for d.next(&m) {
		switch m.num {
		case 1:
			kind = d.bytes(&m)
		case 2:
			status = d.bytes(&m)
		}
	}
	if string(kind) == "Ready" && !d.condition {
		d.condition = true
		o.Ready = d.keep(status)
	}
}

func (d *podDecoder) containerStatus(m message, s *containerStatus) {
	for d.next(&m) {
		switch m.num {
		case 1:
			s.name = d.bytes(&m)
		case 8:
			s.id = d.bytes(&m)
		}
	}
	if !d.filling {
		d.keep(s.id) // to be counted; identify will keep it
	}
}

// identify gives containers the ID of the first status with their name.
func (d *podDecoder) identify(containers []Container, statuses []containerStatus) {
	if len(containers)*len(statuses) > 1000 { // no real pod
		byName := make(map[string][]byte, len(statuses))
		for _, s := range slices.Backward(statuses) {
			byName[string(s.name)] = s.id
		}
		for i := range containers {
			containers[i].ID = d.keep(byName[containers[i].Name])
		}
		return
	}
	for i := range containers {
		c := &containers[i]
		for _, s := range statuses {
			if string(s.name) == c.Name {
				c.ID = d.keep(s.id)
				break
			}
		}
	}
}

// Equal implements Object.
func (p *Pod) Equal(other Object) bool {
	o, ok := other.(*Pod)
	return ok && p.IP == o.IP && p.HostIP == o.HostIP && p.NodeName == o.NodeName && p.Phase == o.Phase && p.Ready == o.Ready &&
		p.equal(&o.Meta) && slices.EqualFunc(p.Containers, o.Containers, Container.equal)
}

func (c Container) equal(o Container) bool {
	return c.Name == o.Name && c.ID == o.ID && c.Image == o.Image && c.Init == o.Init && slices.Equal(c.Ports, o.Ports)
}
