-- Takes a message out of the stream and appends the event that tells so. ARGV
-- as append.lua, and: 7 the message's id, 8 its seq. Replies as publish.lua,
-- and "H": the room keeps no history, "N": no such message.
local before = seen()
if before then return before end
local m = meta()
if not m[1] then return 'H' end
local id = ARGV[8] .. '-0'
local found = redis.call('XRANGE', STREAM, id, id)[1]
-- Byte 2 of an envelope is its kind, bytes 7 to 22 are its id: envelope.go.
local envelope = found and found[2][2]
if not envelope or string.byte(envelope, 2) ~= 1 or string.sub(envelope, 7, 22) ~= ARGV[7] then return 'N' end
redis.call('XDEL', STREAM, id)
redis.call('ZADD', TOMBS, ARGV[8], ARGV[8])
redis.call('ZREMRANGEBYSCORE', TOMBS, '-inf', '(' .. ((tonumber(m[2]) or 0) + 2 - tonumber(ARGV[3])))
local ttl = redis.call('PTTL', STREAM)
if ttl > 0 then redis.call('PEXPIRE', TOMBS, ttl) end
local at, mark = append(m)
if not at then return mark end
return 'S' .. at .. mark
