-- Appending to a room's stream: common to publish.lua and redact.lua.
-- ARGV: 1 connection (16 server ids, 10 nonce, then the publisher), 2 number,
-- 3 keep, 4 life in ms (0: no age), 5 what to renew: "w" the window, "a" ages,
-- "wa" or "", 6 envelope.
local META = KEYS[1]
local ROOM = string.sub(META, PREFIX + 3)
local STREAM, TOMBS = P .. 's:' .. ROOM, P .. 'x:' .. ROOM
local WINDOW = P .. 'w:' .. string.sub(ARGV[1], 27)

local KEY_TTL = 600000 -- bus.KeyTTL

-- A publisher numbers what it sends, and what it stored in this partition is in
-- its window as "number:seq". A message whose number is not beyond the last was
-- stored before (the answer got lost), or comes late on a connection that was
-- given up, after others that were not to be overtaken.
local function seen()
  local last = redis.call('LINDEX', WINDOW, -1)
  if not last or tonumber(string.match(last, '^%d+')) < tonumber(ARGV[2]) then return nil end
  for _, entry in ipairs(redis.call('LRANGE', WINDOW, 0, -1)) do
    local n, seq = string.match(entry, '^(%d+):(%d+)$')
    if n == ARGV[2] then
      return 'S' .. (redis.call('HGET', META, 'e') or '-') .. ' ' .. seq
    end
  end
  return 'X'
end

-- Stores ARGV[6] as the next event and publishes it. m is meta's e, s, r, o, h.
-- Returns "<epoch> <seq>" and a mark ("!" when the publisher's ids are out of
-- date), or nil and an error reply.
local function append(m)
  local epoch, seq, mark, renew = m[1], tonumber(m[2]) or 0, '', ARGV[5]
  local ids = string.sub(ARGV[1], 1, 16)
  if not epoch then -- born, or flushed or evicted: a stream left over is not its own
    epoch, seq, renew = string.sub(ARGV[1], 17, 26) .. ARGV[2], 0, 'wa'
    redis.call('DEL', STREAM, TOMBS)
    redis.call('HSET', META, 'e', epoch, 'r', ids)
    redis.call('HSETNX', META, 'v', clock())
  elseif m[3] ~= ids then
    local e, actual = epochs(), ids
    if m[3] and m[3] ~= '' then
      actual = e.server(ids)
      if actual ~= m[3] then
        redis.call('HSET', META, 'f', e.add(redis.call('HGET', META, 'f'), epoch, seq))
        epoch = e.fork(epoch, string.sub(ARGV[1], 17, 26) .. ARGV[2])
      end
      if actual ~= ids then mark = '!' end
    end
    redis.call('HSET', META, 'e', epoch, 'r', actual)
  end

  seq = seq + 1
  local text = tostring(seq) -- once: it is slow
  local added = redis.pcall('XADD', STREAM, 'MAXLEN', '~', ARGV[3], text .. '-0', 'd', ARGV[6])
  if type(added) == 'table' and added.err then
    if not string.find(added.err, 'equal or smaller', 1, true) then return nil, added end
    -- The stream is ahead of meta: it is not the stream that meta speaks of.
    local e = epochs()
    redis.call('HSET', META, 'f', e.add(redis.call('HGET', META, 'f'), epoch, seq - 1))
    epoch, renew = e.fork(epoch, string.sub(ARGV[1], 17, 26) .. ARGV[2]), 'wa'
    redis.call('HSET', META, 'e', epoch)
    redis.call('DEL', STREAM, TOMBS)
    redis.call('XADD', STREAM, text .. '-0', 'd', ARGV[6])
  end
  redis.call('HSET', META, 's', text)

  -- Publishers renew ages once in an eighth of their time, so they are set that
  -- much longer.
  if m[5] ~= ARGV[4] or renew == 'a' or renew == 'wa' then
    local life, occupied = tonumber(ARGV[4]), m[4]
    redis.call('HSET', META, 'h', ARGV[4])
    if life == 0 and occupied then
      redis.call('PERSIST', STREAM)
      redis.call('PERSIST', TOMBS)
    else
      local idle = tonumber(redis.call('HGET', META, 'i') or 0)
      if life == 0 then life = math.max(idle, KEY_TTL) end
      life = math.ceil(life * 9 / 8)
      redis.call('PEXPIRE', STREAM, life)
      redis.call('PEXPIRE', TOMBS, life)
      if not occupied then redis.call('PEXPIRE', META, math.max(life, idle)) end
    end
  end

  if redis.call('RPUSH', WINDOW, ARGV[2] .. ':' .. text) > 1024 then -- far more than can be on their way
    redis.call('LTRIM', WINDOW, -512, -1)
  end
  if renew == 'w' or renew == 'wa' then redis.call('PEXPIRE', WINDOW, 600000) end
  local at = epoch .. ' ' .. text
  redis.call(PUBLISH, P .. 'c:' .. ROOM, 'e' .. at .. ' ' .. ARGV[6])
  return at, mark
end

local function meta() return redis.call('HMGET', META, 'e', 's', 'r', 'o', 'h') end
