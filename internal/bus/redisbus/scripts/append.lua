-- Appending to a room's stream: common to publish.lua and redact.lua.
-- ARGV: 1 connection (16 server ids, 10 nonce, then the publisher), 2 number,
-- 3 keep, 4 life in ms (0: no age), 5 "1" to renew the window, 6 envelope.
local META = KEYS[1]
local ROOM = string.sub(META, PREFIX + 3)
local STREAM, TOMBS = key('s', ROOM), key('x', ROOM)
local IDS, NONCE = string.sub(ARGV[1], 1, 16), string.sub(ARGV[1], 17, 26)
local WINDOW = P .. 'w:' .. string.sub(ARGV[1], 27)
local NUMBER = tonumber(ARGV[2])

local KEY_TTL = 600000 -- bus.KeyTTL
local WINDOW_TTL = 600000
local WINDOW_MAX, WINDOW_MIN = 1024, 512 -- a publisher has far fewer on their way

-- A publisher numbers what it sends, and what it stored in this partition is in
-- its window as "number:seq". A message whose number is not beyond the last was
-- stored before (the answer got lost), or comes late on a connection that was
-- given up, after others that were not to be overtaken.
local function seen()
  local last = redis.call('LINDEX', WINDOW, -1)
  if not last or tonumber(string.match(last, '^%d+')) < NUMBER then return nil end
  for _, entry in ipairs(redis.call('LRANGE', WINDOW, 0, -1)) do
    local n, seq = string.match(entry, '^(%d+):(%d+)$')
    if tonumber(n) == NUMBER then
      return 'S' .. (redis.call('HGET', META, 'e') or '-') .. ' ' .. seq
    end
  end
  return 'X'
end

-- Stores ARGV[6] as the next event and publishes it. Returns epoch, seq and a
-- mark ("!" when the publisher's ids are out of date), or an error reply.
local function append(m)
  local keep, life = ARGV[3], tonumber(ARGV[4])
  local epoch, seq, mark = m[1], tonumber(m[2]) or 0, ''
  local set = {}
  if not epoch then -- born, or flushed or evicted: a stream left over is not its own
    epoch, seq = NONCE .. ARGV[2], 0
    redis.call('DEL', STREAM, TOMBS)
    set = {'e', epoch, 'r', IDS}
    if not m[8] then set[5], set[6] = 'v', int(clock()) end
  elseif m[3] ~= IDS then
    local actual = IDS
    if m[3] and m[3] ~= '' then
      actual = server_ids(IDS)
      if actual ~= m[3] then
        m[4] = add_fork(m[4], epoch, seq)
        epoch = lineage(epoch) .. '.' .. NONCE .. ARGV[2]
      end
      if actual ~= IDS then mark = '!' end
    end
    set = {'e', epoch, 'r', actual, 'f', m[4] or ''}
  end

  seq = seq + 1
  local added = redis.pcall('XADD', STREAM, 'MAXLEN', '~', keep, int(seq) .. '-0', 'd', ARGV[6])
  if type(added) == 'table' and added.err then
    if not string.find(added.err, 'equal or smaller', 1, true) then return nil, added end
    -- The stream is ahead of meta: it is not the stream that meta speaks of.
    redis.call('DEL', STREAM, TOMBS)
    m[4] = add_fork(m[4], epoch, seq - 1)
    epoch = lineage(epoch) .. '.' .. NONCE .. ARGV[2]
    set = {'e', epoch, 'r', IDS, 'f', m[4]}
    redis.call('XADD', STREAM, int(seq) .. '-0', 'd', ARGV[6])
  end
  set[#set + 1] = 's'
  set[#set + 1] = int(seq)

  -- Ages are renewed once in an eighth of their time, and set that much longer.
  local occupied = m[5]
  if life > 0 or not occupied then
    local span = life
    if life == 0 then span = math.max(tonumber(m[6]) or 0, KEY_TTL) end
    local now = clock()
    if not m[7] or m[9] ~= ARGV[4] or now - tonumber(m[7]) > span / 8 then
      local ttl = math.ceil(span * 9 / 8)
      set[#set + 1] = 't'
      set[#set + 1] = int(now)
      set[#set + 1] = 'h'
      set[#set + 1] = ARGV[4]
      redis.call('HSET', META, unpack(set))
      set = nil
      redis.call('PEXPIRE', STREAM, ttl)
      redis.call('PEXPIRE', TOMBS, ttl)
      if not occupied then redis.call('PEXPIRE', META, math.max(ttl, tonumber(m[6]) or 0)) end
    end
  elseif m[9] ~= ARGV[4] then
    set[#set + 1] = 'h'
    set[#set + 1] = ARGV[4]
    redis.call('PERSIST', STREAM)
    redis.call('PERSIST', TOMBS)
  end
  if set then redis.call('HSET', META, unpack(set)) end

  if redis.call('RPUSH', WINDOW, ARGV[2] .. ':' .. int(seq)) > WINDOW_MAX then
    redis.call('LTRIM', WINDOW, -WINDOW_MIN, -1)
  end
  if ARGV[5] == '1' then redis.call('PEXPIRE', WINDOW, WINDOW_TTL) end
  redis.call(PUBLISH, key('c', ROOM), 'e' .. epoch .. ' ' .. int(seq) .. ' ' .. ARGV[6])
  return epoch, seq, mark
end

local function meta() return redis.call('HMGET', META, 'e', 's', 'r', 'f', 'o', 'i', 't', 'v', 'h') end
