package filter

import (
	"math"

	pb "github.com/wsrelay/relay/plugins/filter/filterpb"
)

// Proto is d on the wire.
func (d Description) Proto() *pb.DescribeResponse {
	p := &pb.DescribeResponse{
		Name: valid(d.Name), Version: valid(d.Version), ConfigSchema: valid(string(d.Schema)), Stateless: d.Stateless, Traces: d.Traces,
		Needs:    &pb.Needs{Recent: count(d.Needs.Recent), Ip: d.Needs.IP},
		MaxBatch: count(d.MaxBatch), MaxInFlight: count(d.MaxInFlight),
	}
	for _, c := range d.Needs.Claims {
		p.Needs.Claims = append(p.Needs.Claims, valid(c))
	}
	for _, e := range d.Events {
		p.Events = append(p.Events, pb.Event(e))
	}
	for _, a := range d.Actions {
		p.Actions = append(p.Actions, pb.Action(a))
	}
	for _, k := range d.Sanctions {
		p.Sanctions = append(p.Sanctions, pb.Sanction_Kind(k))
	}
	return p
}

// DescriptionFromProto is a description as the wire brought it, with the
// contract's defaults for what it leaves out and its bounds on what it claims.
func DescriptionFromProto(p *pb.DescribeResponse) Description {
	d := Description{
		Name: p.GetName(), Version: p.GetVersion(), Stateless: p.GetStateless(), Traces: p.GetTraces(),
		Needs:    Needs{Claims: p.GetNeeds().GetClaims(), Recent: int(min(p.GetNeeds().GetRecent(), MaxRecent)), IP: p.GetNeeds().GetIp()},
		MaxBatch: bound(p.GetMaxBatch(), MaxBatch), MaxInFlight: bound(p.GetMaxInFlight(), MaxInFlight),
	}
	if p.GetConfigSchema() != "" {
		d.Schema = []byte(p.GetConfigSchema())
	}
	for _, e := range p.GetEvents() {
		d.Events = append(d.Events, Event(min(math.MaxUint8, uint32(e))))
	}
	for _, a := range p.GetActions() {
		d.Actions = append(d.Actions, Action(min(math.MaxUint8, uint32(a))))
	}
	for _, k := range p.GetSanctions() {
		d.Sanctions = append(d.Sanctions, SanctionKind(min(math.MaxUint8, uint32(k))))
	}
	if len(d.Events) == 0 {
		d.Events = []Event{Chat}
	}
	if len(d.Actions) == 0 {
		d.Actions = []Action{ActionAllow}
	}
	return d
}

// bound lowers most, for 0 means most.
func bound(n, most uint32) int {
	if n == 0 {
		return int(most)
	}
	return int(min(n, most))
}

func count(n int) uint32 { return uint32(min(max(n, 0), math.MaxInt32)) }
