-- Every script begins with this. Go prepends: PUBLISH, the command that
-- publishes (SPUBLISH on a cluster), and PREFIX, the length of a partition's
-- prefix, or of that of the sanctions. KEYS[1] is always the meta key of a room,
-- or the prefix alone: the other keys derive from it and share its slot.
--
-- Numbers are written by concatenation, which is exact below 10^14: enough for
-- seqs and for milliseconds until the year 5138.
local P = string.sub(KEYS[1], 1, PREFIX)

local function key(kind, room) return P .. kind .. ':' .. room end

local function clock() -- milliseconds since the Unix epoch, as Redis sees it
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
