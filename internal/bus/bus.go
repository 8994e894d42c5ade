// Package bus is the contract between an instance and all the others.
//
// It stands in the middle of a message's way: a room hands an accepted message
// to Publish, and every instance with members in that room, the sender's own
// included, gets it back through its Handler. One path, one order: nothing is
// delivered to local members before the bus has said so.
//
// Two implementations keep this contract, and bustest runs one suite over both:
// membus (in memory, one instance, the default) and redisbus (Redis or Valkey,
// any number of instances).
//
// # What the bus promises
//
//   - Order. Events of one room reach every Handler in one order: that of the
//     stream for rooms with history, that of the room's channel for the rest.
//     Messages that one instance publishes to one room keep the order of the
//     Publish calls.
//   - No hole, no repeat. In rooms with history a Handler sees consecutive
//     sequence numbers from the position that Subscribe returned. What was
//     missed is read back from the stream before anything later is delivered to
//     that room; what the stream no longer holds is covered by a Notice with the
//     range. Rooms without history get a Notice of kind Gap after an
//     interruption: relay does not know what was lost, and says so.
//   - Acceptance is a promise. A Result without error means: stored on the
//     primary (history), or taken by the primary (plain). Outcome unknown is
//     said only when it is.
//   - Nothing blocks on the network but what takes a context. Publish, Signal
//     and Unsubscribe return at once; full queues refuse.
//   - Presence is a set of (member, instance). Enter and Leave are idempotent,
//     and only the transition between no instance and one announces.
//   - Sanctions are in force on every instance within a second, and on one that
//     was cut off as soon as it hears the others again. Asking for them costs no
//     network: each instance holds all of them.
package bus

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"
)

// Errors that a Bus returns; everything else it returns wraps one of them.
var (
	// ErrUnavailable: the bus cannot be reached or its queues are full; the
	// request did not happen. The client should retry.
	ErrUnavailable = errors.New("bus unavailable")
	// ErrUnknownOutcome: the request was sent and no answer came. It may have
	// happened; repeating it with the same key is safe.
	ErrUnknownOutcome = errors.New("outcome unknown")
	ErrRoomExists     = errors.New("room exists")
	ErrRoomNotFound   = errors.New("room not found")
	ErrRoomFull       = errors.New("room full")
	ErrNoHistory      = errors.New("room keeps no history")
	ErrNotFound       = errors.New("message not found") // Redact: not in the stream any more, or never
	// ErrKeyReused: the idempotency key was used with another body.
	ErrKeyReused = errors.New("key used with another message")
	ErrClosed    = errors.New("bus closed")
)

// Bus connects one instance. All methods are safe for concurrent use.
type Bus interface {
	// Start connects and begins to deliver to h. It returns once the bus is
	// usable, or an error that says what to check. Called once.
	Start(ctx context.Context, h Handler) error

	// Close stops taking messages, publishes what was accepted (bounded by
	// ctx) and joins everything that Start began. Every Receipt still open is
	// resolved. Idempotent, safe before Start. Presence is not touched: a
	// drain Leaves on its own, a crash is reaped by the others.
	Close(ctx context.Context) error

	// Subscribe makes this instance a receiver of room and returns when that
	// is confirmed: every event after the returned Position will be delivered.
	// Calls are counted; each needs one Unsubscribe. keeps says whether the
	// room's policy keeps history.
	Subscribe(ctx context.Context, room string, keeps bool) (Position, error)

	// Unsubscribe gives back one Subscribe. Events may still arrive for a
	// while (the subscription lingers for those who come right back).
	Unsubscribe(room string)

	// Enter puts a member into a room, atomically with the capacity check and
	// the position. See Entry and Entered. Repeating it is harmless.
	Enter(ctx context.Context, e *Entry) (*Entered, error)

	// Leave takes the member's presence on this instance away, at once or
	// after a grace period in which Enter on any instance makes it undone
	// without a word. Leaving where one is not present is no error. The bus
	// never forgets a leave: with ErrUnavailable it has noted it and carries it
	// out when it can, unless an Enter of the same member comes first.
	Leave(ctx context.Context, l *Leaving) error

	// Publish hands over a message. It never blocks on the network; an error
	// means it was refused here and now (ErrUnavailable, ErrClosed) and r will
	// not be called. Otherwise r.Published is called exactly once, from a
	// goroutine of the bus, and must not block.
	Publish(m *Message, r Receipt) error

	// Signal publishes something worth losing: no order, no store, no receipt.
	// Under pressure the newest signal per room and sender replaces older ones.
	Signal(s *Event) error

	// Members lists who is present, in a stable order, at most limit a page.
	Members(ctx context.Context, room, cursor string, limit int) (MemberPage, error)

	// History reads stored events, oldest first.
	History(ctx context.Context, q HistoryQuery) (HistoryPage, error)

	// Redact removes a stored message and publishes a Redacted event that
	// takes the next sequence number. Repeating it is ErrNotFound.
	Redact(ctx context.Context, r *Redaction) (Position, error)

	// Sanction puts s in force, s.Until being of this instance's clock, and
	// returns it with ID, Issued and the Until of the store's clock. Those that
	// last are stored until they end or are lifted. Every instance, this one
	// included, is given it by Handler.Sanctioned; a warning or kick is missed by
	// an instance that is cut off at that moment. A caller that sets s.ID may
	// repeat the call: of one that lasts, the first stays in force as it was and
	// is returned. Errors are ErrBadSanction, ErrTooManySanctions,
	// ErrUnavailable, ErrUnknownOutcome and ErrClosed.
	Sanction(ctx context.Context, s *Sanction) (*Sanction, error)

	// Lift ends a sanction, which it returns, and tells every instance by
	// Handler.Lifted. ErrNoSanction when there is none under id, or no more.
	Lift(ctx context.Context, id string) (*Sanction, error)

	// Sanctions lists what is in force, as this instance knows it: those issued
	// first come first, at most limit a page.
	Sanctions(ctx context.Context, cursor string, limit int) (SanctionPage, error)

	// InForce lists the sanctions against a member in a room, those against it
	// everywhere included; with room empty, the latter alone. ip is the address
	// of a guest, whom sanctions bind by it as well, and empty for everyone else.
	// It is answered from memory, takes no lock, and where there are no sanctions
	// at all costs one atomic load. While the store cannot be reached it goes on
	// answering with what was last known. The result is not to be changed.
	InForce(member, ip, room string) []*Sanction

	// Calls of Publish and Signal can be gathered, to leave together.
	Gatherer

	// Health is nil while the bus works in both directions, else the reason in
	// words for an operator.
	Health() error
}

// Handler receives what the bus has for this instance. Calls for one room come
// one after the other; calls for different rooms may be concurrent. No method
// may block or call back into the Bus synchronously, InForce excepted: a method
// of the Bus may be holding the room's order, or that of the sanctions, while it
// calls.
type Handler interface {
	// Deliver hands over the next event of a subscribed room. The event and
	// all its slices are the handler's to keep and are never written to again.
	Deliver(e *Event)

	// A bus that delivers one event at a time need not gather.
	Gatherer

	// Sanctioned tells of a sanction, once, when InForce says so already. What
	// was in force when the bus started is not told. Calls of Sanctioned and
	// Lifted come one after the other, in the order of the store.
	Sanctioned(s *Sanction)

	// Lifted tells that a sanction was lifted before its end, or vanished with
	// the store. One that ends by itself is not told.
	Lifted(s *Sanction)
}

// Gatherer is told which calls follow one another without a wait: Gather and Flush
// enclose them. In between, what they cause may be put off, whoever's calls they
// are; Flush has it done, on the caller's goroutine or another. Several may gather
// side by side: the first Flush is one for all.
type Gatherer interface {
	Gather()
	Flush()
}

// AtOnce is a Gatherer that puts nothing off.
type AtOnce struct{}

// Gather implements Gatherer.
func (AtOnce) Gather() {}

// Flush implements Gatherer.
func (AtOnce) Flush() {}

// Position is a place in a room's stream. Sequence numbers start at 1 and go on
// across epochs; a new epoch says that the stream may have forked (a failover
// that lost writes, a flush). The zero Position is that of a plain room.
type Position struct {
	Epoch string
	Seq   uint64
}

// MessageID is 128 random bits, and the trace id of the message.
type MessageID [16]byte

// NewMessageID makes one. It is never all zero, which would be no trace id.
func NewMessageID() (id MessageID) {
	_, _ = rand.Read(id[:]) // never fails since Go 1.24
	if id == (MessageID{}) {
		id[15] = 1
	}
	return id
}

func (id MessageID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id is unset.
func (id MessageID) IsZero() bool { return id == MessageID{} }

// Retention is how much of a room's stream is kept.
type Retention struct {
	Keep int           // newest events
	For  time.Duration // since the last publish
}

// Kept reports whether the room keeps history at all.
func (r Retention) Kept() bool { return r.Keep > 0 }

// Message is what Publish takes.
type Message struct {
	Event     Event     // Kind, Room, ID, Time, Sender, Body, Trace; Epoch and Seq are the bus's to set
	Retention Retention // zero: a plain room, published at most once and not stored

	// Key makes the message idempotent for KeyTTL per room, member and key
	// (history rooms only). Digest tells a repeat from another message under
	// the same key: a hash of what the client sent.
	Key    string
	Digest [16]byte
}

// KeyTTL is how long an idempotency key is remembered.
const KeyTTL = 10 * time.Minute

// Receipt hears what became of a message.
type Receipt interface{ Published(Result) }

// Result is the fate of a message. With Err nil it is stored (history) or taken
// (plain). Err ErrUnavailable: it did not happen. ErrUnknownOutcome: it may
// have. ErrKeyReused: see Message.Key.
type Result struct {
	Position
	ID        MessageID // of the first message, for a duplicate
	Time      int64     // likewise; milliseconds since the Unix epoch
	Duplicate bool
	Pipeline  int // messages that shared the round trip, this one included; 0: unknown, or there was none
	Err       error
}

// Entry asks for a member's presence.
type Entry struct {
	Room   string
	Member string // the identity's id: one user on many sockets is one member
	User   []byte // the JSON object that others see

	Create    CreateMode
	CreateKey string        // with MustCreate: a room that the same member created with the same key counts as just created
	Max       int           // members over all instances; 0: no bound. A member already present is never refused
	Presence  bool          // false: counted, but not listed nor announced
	Announce  bool          // publish Joined and Left (never above AnnounceMax members)
	Retention Retention     // of the room's policy
	Idle      time.Duration // how long the room outlives its last member
	Grace     time.Duration // how long a member outlives its instance's crash, once reaped

	Resume      *Position // read back what came after it
	ResumeMax   int       // messages at most
	ResumeBytes int       // bytes at most
}

// AnnounceMax is the number of members above which joins and leaves are no
// longer announced: n members coming and going cost n² events.
const AnnounceMax = 500

// MembersListed is how many members Entered lists.
const MembersListed = 200

// CreateMode says what Enter does about the room's existence.
type CreateMode uint8

const (
	MayCreate  CreateMode = iota // join where the policy allows to create
	MustCreate                   // create: ErrRoomExists when it is there
	MustExist                    // join where it does not: ErrRoomNotFound
)

// Entered is what Enter found, all of one moment.
type Entered struct {
	Position               // events up to here are in Missed or came before; later ones are delivered live
	Created       bool     // the room did not exist before
	First         bool     // the member was not present before (joined was announced, where it is)
	Members       [][]byte // User objects, at most MembersListed
	Count         int      // of all members
	Version       uint64   // of the member list
	Recovered     bool     // Missed holds everything after Resume
	Missed        []*Event // oldest first; only with Recovered
	ForkedAt      uint64   // seq at which the epoch of Resume ended; 0 when it is the current one or unknown
	OldestHistory uint64   // lowest seq the stream still holds; 0 when empty
}

// Leaving takes a presence away.
type Leaving struct {
	Room   string
	Member string
	Grace  time.Duration // 0: now
	Reason string        // told in Left: "" for a plain leave, or "kicked", "banned", "policy"
}

// MemberPage is one page of members.
type MemberPage struct {
	Members [][]byte
	Count   int
	Version uint64
	Cursor  string // of the next page; empty at the end
}

// HistoryQuery asks for stored events on one side of a seq. At most one of
// Before and After is set; neither means the newest.
type HistoryQuery struct {
	Room   string
	Before uint64
	After  uint64
	Oldest bool // with neither: begin at the oldest instead, as After would with a seq below all
	Limit  int  // events at most
	Bytes  int  // bytes of bodies at most; 0: no bound. At least one event is returned if there is one
}

// HistoryPage answers a HistoryQuery; Events holds Chat events only, oldest
// first, redacted ones left out.
type HistoryPage struct {
	Position // of the room
	Events   []*Event
}

// Redaction names the message to remove.
type Redaction struct {
	Room      string
	Target    MessageID
	Seq       uint64
	Reason    string
	By        Sender
	Retention Retention
}
