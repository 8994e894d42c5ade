-- Presence. p:<room> maps a member to {listed, announced, rank, user, owners},
-- an owner being {incarnation, grace after a crash in ms, end of the running
-- grace or 0, reason told when it ends}. A member is present while it has an
-- owner, so one HGET decides between no instance and one.
local ANNOUNCE_MAX = 500 -- bus.AnnounceMax
local KEY_TTL = 600000   -- bus.KeyTTL

local function load(room, member)
  local raw = redis.call('HGET', key('p', room), member)
  return raw and cmsgpack.unpack(raw) or nil
end

local function save(room, member, m) redis.call('HSET', key('p', room), member, cmsgpack.pack(m)) end

-- How a member of a room is named in i:<incarnation> and, behind the
-- incarnation, in g.
local function place(room, member) return #room .. ':' .. room .. member end

local function parse_place(s)
  local n, rest = string.match(s, '^(%d+):(.*)$')
  n = tonumber(n)
  return string.sub(rest, 1, n), string.sub(rest, n + 1)
end

local function claim(inc, room, member)
  redis.call('SADD', P .. 'i:' .. inc, place(room, member))
  redis.call('SADD', P .. 'n', inc)
end

local function disclaim(inc, room, member)
  local set = P .. 'i:' .. inc
  if redis.call('SREM', set, place(room, member)) == 1 and redis.call('EXISTS', set) == 0 then
    redis.call('SREM', P .. 'n', inc)
  end
end

local function grace(inc, room, member, till) redis.call('ZADD', P .. 'g', till, inc .. ':' .. place(room, member)) end
local function ungrace(inc, room, member) redis.call('ZREM', P .. 'g', inc .. ':' .. place(room, member)) end

-- Tells of a coming (j) or going (l), behind the position that precedes it.
local function announce(kind, room, member, m, count, version, reason, now)
  if m[1] == 0 or m[2] == 0 or count > ANNOUNCE_MAX then return end
  local at = redis.call('HMGET', key('m', room), 'e', 's')
  redis.call(PUBLISH, key('c', room), table.concat({
    kind .. (at[1] or '-'), at[2] or '0', count, version, now, #member, #reason, member .. reason .. m[4],
  }, ' '))
end

-- The last member went: from now on the room ages.
local function emptied(room)
  local meta, stream, tombs = key('m', room), key('s', room), key('x', room)
  local ttl = tonumber(redis.call('HGET', meta, 'i') or 0)
  local history = redis.call('PTTL', stream)
  if history == -1 then -- kept without an age, it counts from now
    history = math.max(ttl, KEY_TTL)
    redis.call('PEXPIRE', stream, history)
    redis.call('PEXPIRE', tombs, history)
  end
  redis.call('HDEL', meta, 'o')
  redis.call('PEXPIRE', meta, math.max(ttl, history))
end

-- Ends an owner's presence at once; tells so when it was the last.
local function disown(room, member, inc, reason, now)
  local m = load(room, member)
  if not m then
    redis.call('ZREM', key('o', room), member)
    ungrace(inc, room, member)
    disclaim(inc, room, member)
    return
  end
  local owners, found = {}, nil
  for _, o in ipairs(m[5]) do
    if o[1] == inc then found = o else owners[#owners + 1] = o end
  end
  if not found or not reason and found[3] == 0 then return end -- it came back
  if found[3] > 0 then ungrace(inc, room, member) end
  disclaim(inc, room, member)
  m[5] = owners
  if #owners > 0 then
    save(room, member, m)
    return
  end
  redis.call('HDEL', key('p', room), member)
  redis.call('ZREM', key('o', room), member)
  local version = redis.call('HINCRBY', key('m', room), 'v', 1)
  local count = redis.call('HLEN', key('p', room))
  announce('l', room, member, m, count, version, reason or found[4], now)
  if count == 0 then emptied(room) end
end
