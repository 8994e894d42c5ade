-- Reads what an instance missed. ARGV: 1 epoch and 2 seq it stands at, 3 events
-- at most, 4 how many of those before are named. Replies {} when the room has no
-- epoch, else {epoch, seq, version, shared (-1: nothing in common), oldest held or
-- 0, {redacted seqs before the first event}, {seq, envelope}, {seq, end of id},
-- "1" if the stream is behind and nothing was added since the server became what it
-- is}; events begin after min(seq, shared), or at the beginning, and those that are
-- named end there.
local ROOM = string.sub(KEYS[1], PREFIX + 3)
local meta = redis.call('HMGET', KEYS[1], 'e', 's', 'v', 'f', 'r')
if not meta[1] then return {} end
local at, shared = tonumber(ARGV[2]), nil
if ARGV[1] == meta[1] then shared = at else shared = epochs().common(meta[1], meta[4], ARGV[1]) end
local from = math.min(at, shared or 0)
local events = {}
for _, entry in ipairs(redis.call('XRANGE', key('s', ROOM), from + 1, '+', 'COUNT', ARGV[3])) do
  events[#events + 1] = seq_of(entry)
  events[#events + 1] = entry[2][2]
end
local head = events[1] or tonumber(meta[2]) + 1
local names = {}
if from > 0 then
  local first = math.max(1, from - ARGV[4] + 1)
  for _, entry in ipairs(redis.call('XRANGE', key('s', ROOM), first, from)) do
    names[#names + 1] = seq_of(entry)
    names[#names + 1] = string.sub(entry[2][2], 15, 22) -- envelope.go
  end
end
local cut = '0'
if ARGV[1] == meta[1] and tonumber(meta[2]) < at and meta[5] and meta[5] ~= '' and epochs().server(meta[5]) ~= meta[5] then
  cut = '1'
end
return {meta[1], meta[2], meta[3] or '0', shared or -1, oldest(ROOM), tombs(ROOM, from + 1, head - 1), events, names, cut}
