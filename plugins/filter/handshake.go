package filter

// How a plugin and relay find each other, over go-plugin's handshake: relay
// starts the program with these in its environment, and the program answers on
// standard output with the line
//
//	1|1|unix|/path/of/its/socket|grpc
//
// None of these may ever change: a plugin built years ago must start.
const (
	// CookieKey and CookieValue in the environment tell a plugin that it was
	// started by relay and not by hand. They are no secret.
	CookieKey   = "RELAY_FILTER_COOKIE"
	CookieValue = "3f9d2c5e-relay-filter-v1"

	// ProtocolVersion is the version of the line's second field: the major
	// version of the contract, as in the name relay.filter.v1.
	ProtocolVersion = 1

	// DispenseName is the name of the service for go-plugin.
	DispenseName = "filter"

	// SocketDirKey in the environment names the folder in which a plugin must
	// make its socket.
	SocketDirKey = "PLUGIN_UNIX_SOCKET_DIR"
)

// The bounds of the contract, which a Description may lower.
const (
	MaxBatch    = 64   // messages in a batch
	MaxInFlight = 1024 // messages that a process is at work on
	MaxRecent   = 50   // earlier messages with each message
)
