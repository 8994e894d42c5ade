package filters

import (
	"bytes"
	"encoding/hex"
	"os"
	"os/exec"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	pb "github.com/wsrelay/relay/plugins/filter/filterpb"
)

// What the examples carry along of the contract is the contract.
func TestTheContractIsTheSameInAllLanguages(t *testing.T) {
	own, err := os.ReadFile("slowmode/filter.proto")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("../../plugins/filter/filterpb/filter.proto")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(own, want) {
		t.Error("slowmode/filter.proto is not plugins/filter/filterpb/filter.proto: copy it")
	}

	cmd := exec.CommandContext(t.Context(), python(), "-c", "import filter_pb2; print(filter_pb2.DESCRIPTOR.serialized_pb.hex(), end='')")
	cmd.Dir = "links"
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(string(out))
	if err != nil {
		t.Fatal(err)
	}
	var python descriptorpb.FileDescriptorProto
	if err := proto.Unmarshal(raw, &python); err != nil {
		t.Fatal(err)
	}
	gen := protodesc.ToFileDescriptorProto(pb.File_filter_proto)
	python.Name = gen.Name // protoc has the path as it was called with
	dropJSONNames(gen.GetMessageType())
	dropJSONNames(python.GetMessageType())
	if !proto.Equal(&python, gen) {
		t.Error("links/filter_pb2.py is stale: in plugins/filter/filterpb, protoc --python_out=../../../examples/filters/links filter.proto")
	}
}

// dropJSONNames removes what protoc tells some generators alone.
func dropJSONNames(list []*descriptorpb.DescriptorProto) {
	for _, m := range list {
		for _, f := range m.GetField() {
			f.JsonName = nil
		}
		dropJSONNames(m.GetNestedType())
	}
}
