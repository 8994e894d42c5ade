package redisbus

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

// Keys and channels.
//
// A room lives in one of 64 partitions, by the hash of its id, in every Redis
// mode. All that belongs to it begins with the partition's prefix,
//
//	prefix:{pNN}:
//
// whose braces are a hash tag: one partition is one slot of a cluster, so any
// script may touch all of a room, and all of its partition, and nothing else.
// After the prefix:
//
//	m:ROOM  hash    the room: e epoch, s seq of the newest event, r ids of the
//	                server that gave it, f forks, v version of the member list,
//	                q rank of the newest member, c who created it, o "1" while
//	                occupied, i idle and h history's life in ms
//	s:ROOM  stream  events: entry SEQ-0 with the envelope in field d
//	x:ROOM  zset    seqs that were redacted, so that they are no gap
//	p:ROOM  hash    member → cmsgpack{listed, announced, rank, user, owners}
//	o:ROOM  zset    listed members by rank, which is the order they came in
//	i:INC   set     the members that incarnation INC of an instance owns here
//	n       set     the incarnations that own any
//	g       zset    running graces, by when they end on Redis's clock
//	d:INC   string  INC was reaped, for an hour
//	k:HASH  string  an idempotency key: what its message became, for 10 minutes
//	w:PUB   list    what publisher PUB stored last, as number:seq
//
//	c:ROOM  channel the room's events
//	probe:INC       channel on which an instance hears itself
//
// Outside the partitions, prefix:{lease}:INC is an instance's lease, and the
// sanctions are in a slot of their own, prefix:{sanctions}: followed by
//
//	all      hash    id → issued, end and the rest (sanction.go)
//	ends     zset    ids by when they end on Redis's clock, of those that do
//	version  string  changes with every change of the above
//	changes  channel the changes
//	probe:INC        as above
//
// Keys of an occupied room do not expire. An empty room's expire after idle, or
// with its history when that lives longer. The stream never outlives meta: a
// stream without meta is of nobody knows which epoch, and is deleted.
const partitions = 64

// keys makes names under one prefix. It is immutable.
type keys struct {
	prefix     string
	partition  [partitions]string // "prefix:{pNN}:"
	partPrefix int                // length of each of the above
	sanctions  string             // "prefix:{sanctions}:"
}

func newKeys(prefix string) *keys {
	k := &keys{prefix: prefix, sanctions: prefix + ":{sanctions}:"}
	for i := range k.partition {
		k.partition[i] = fmt.Sprintf("%s:{p%02d}:", prefix, i)
	}
	k.partPrefix = len(k.partition[0])
	return k
}

// partitionOf is part of the layout: instances of all versions must agree.
func partitionOf(room string) int {
	h := fnv.New64a()
	_, _ = h.Write([]byte(room)) // never fails
	sum := h.Sum64()
	return int((sum ^ sum>>32) % partitions)
}

func (k *keys) meta(room string) string { return k.partition[partitionOf(room)] + "m:" + room }

func (k *keys) presence(room string) string { return k.partition[partitionOf(room)] + "p:" + room }

// owned is the set of an incarnation's members in a partition, by their places.
func (k *keys) owned(part int, inc string) string { return k.partition[part] + "i:" + inc }

// placeOf names a member of a room where members of many rooms are: presence.lua.
func placeOf(room, member string) string { return strconv.Itoa(len(room)) + ":" + room + member }

// parsePlace takes apart what placeOf made.
func parsePlace(place string) (room, member string, ok bool) {
	digits, rest, _ := strings.Cut(place, ":")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || n > len(rest) {
		return "", "", false
	}
	return rest[:n], rest[n:], true
}

func (k *keys) channel(room string) string { return k.partition[partitionOf(room)] + "c:" + room }

func (k *keys) lease(inc string) string { return k.prefix + ":{lease}:" + inc }

// parse takes a channel apart. A channel that is not a room's is not ok.
func (k *keys) parse(channel []byte) (part int, room []byte, ok bool) {
	if len(channel) < k.partPrefix+2 || string(channel[k.partPrefix:k.partPrefix+2]) != "c:" {
		return 0, nil, false
	}
	digits := channel[k.partPrefix-4 : k.partPrefix-2]
	part = int(digits[0]-'0')*10 + int(digits[1]-'0')
	if part < 0 || part >= partitions || string(channel[:k.partPrefix]) != k.partition[part] {
		return 0, nil, false
	}
	return part, channel[k.partPrefix+2:], true
}

// idempotency names the record of a key: a hash, because member and key are the
// client's to choose. Lengths keep ("ab", "c") from being ("a", "bc").
func idempotency(room, member, key string) string {
	b := make([]byte, 0, 12+len(room)+len(member)+len(key))
	for _, s := range []string{room, member, key} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	sum := sha256.Sum256(b)
	return string(sum[:16])
}
