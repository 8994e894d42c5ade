-- Puts a member into a room. ARGV: 1 member, 2 user, 3 incarnation, 4 create
-- mode (0 may, 1 must, 2 must exist), 5 creation token, 6 max, 7 listed,
-- 8 announce, 9 keep (0: plain), 10 life in ms, 11 idle in ms, 12 grace after a
-- crash in ms, 13 an epoch for a room without one, 14 members to list,
-- 15 resume epoch or "", 16 resume seq, 17 resume max, 18 resume bytes,
-- 19 "1" when an instance puts back a member of a former incarnation, 20 that.
-- Replies {"E"}, {"M"}, {"F"}: exists, missing, full; or {"", created, first,
-- epoch, seq, count, version, oldest, recovered, fork, {users}, {seq, envelope}}.
local ROOM = string.sub(KEYS[1], PREFIX + 3)
local MEMBER, INC = ARGV[1], ARGV[3]
local mode, token, max = ARGV[4], ARGV[5], tonumber(ARGV[6])
local listed, announced = tonumber(ARGV[7]), tonumber(ARGV[8])
local keep, life = tonumber(ARGV[9]), tonumber(ARGV[10])
local back, former = ARGV[19] == '1', ARGV[20]

local meta = redis.call('HMGET', KEYS[1], 'e', 's', 'f', 'v', 'c', 'o', 'i', 'h')
local exists = meta[4] ~= false
local m = load(ROOM, MEMBER)
local again = exists and mode == '1' and meta[5] == token
if not back then
  if mode == '1' and exists and not again then return {'E'} end
  if mode == '2' and not exists then return {'M'} end
  if not m and max > 0 and redis.call('HLEN', key('p', ROOM)) >= max then return {'F'} end
end

local now = clock()
local epoch, seq, version = meta[1], tonumber(meta[2]) or 0, tonumber(meta[4]) or now
local set = {}
local function change(field, value)
  set[#set + 1] = field
  set[#set + 1] = value
end
if not exists then
  -- Versions begin with the time, so that they go on rising after a flush.
  change('v', version)
  if mode == '1' then change('c', token) end
end
if meta[7] ~= ARGV[11] then change('i', ARGV[11]) end
if keep > 0 then
  if not epoch then
    epoch, seq = ARGV[13], 0
    redis.call('DEL', key('s', ROOM), key('x', ROOM))
    change('e', epoch)
    change('s', '0')
    change('r', '')
  end
  if meta[8] ~= ARGV[10] then
    change('h', ARGV[10])
    if life > 0 then
      redis.call('PEXPIRE', key('s', ROOM), math.ceil(life * 9 / 8))
      redis.call('PEXPIRE', key('x', ROOM), math.ceil(life * 9 / 8))
    end
  end
end
if not meta[6] then change('o', '1') end
if #set > 0 then redis.call('HSET', KEYS[1], unpack(set)) end
if not meta[6] then
  redis.call('PERSIST', KEYS[1])
  if keep > 0 and life == 0 then
    redis.call('PERSIST', key('s', ROOM))
    redis.call('PERSIST', key('x', ROOM))
  end
end

local first = m == nil
m = m or {0, 0, 0, '', {}}
local owners, own = {}, nil
for _, o in ipairs(m[5]) do
  if o[3] > 0 then -- in grace, here or elsewhere: undone without a word
    ungrace(o[1], ROOM, MEMBER)
    disclaim(o[1], ROOM, MEMBER)
  elseif back and o[1] == former then
    disclaim(former, ROOM, MEMBER)
  else
    owners[#owners + 1] = o
    if o[1] == INC then own = o end
  end
end
if own then
  own[2] = tonumber(ARGV[12])
else
  owners[#owners + 1] = {INC, tonumber(ARGV[12]), 0, ''}
end
claim(INC, ROOM, MEMBER)
if listed == 1 and m[1] == 0 then
  m[3] = redis.call('HINCRBY', KEYS[1], 'q', 1)
  redis.call('ZADD', key('o', ROOM), m[3], MEMBER)
elseif listed == 0 and m[1] == 1 then
  redis.call('ZREM', key('o', ROOM), MEMBER)
end
m[1], m[2], m[4], m[5] = listed, announced, ARGV[2], owners
save(ROOM, MEMBER, m)

local count = redis.call('HLEN', key('p', ROOM))
if first then
  version = redis.call('HINCRBY', KEYS[1], 'v', 1)
  -- Who comes back after a flush was never told to have left, who was reaped was.
  if not back or redis.call('EXISTS', P .. 'd:' .. former) == 1 then
    announce('j', ROOM, MEMBER, m, count, version, '', now)
  elseif listed == 1 then
    redis.call(PUBLISH, key('c', ROOM), 'v' .. version)
  end
end

local users = {}
local ids = redis.call('ZRANGE', key('o', ROOM), 0, tonumber(ARGV[14]) - 1)
if #ids > 0 then
  for _, raw in ipairs(redis.call('HMGET', key('p', ROOM), unpack(ids))) do
    if raw then users[#users + 1] = cmsgpack.unpack(raw)[4] end -- else p was lost alone, and is about to be put back
  end
end

if keep == 0 then
  return {'', exists and not again and 0 or 1, first and 1 or 0, '', 0, count, version, 0, 0, 0, users, {}}
end
local low, recovered, fork, missed = oldest(ROOM), 0, 0, {}
if ARGV[15] ~= '' then
  local from = tonumber(ARGV[16])
  local shared = from
  if ARGV[15] ~= epoch then
    shared = epochs().common(epoch, meta[3], ARGV[15])
    fork = shared or 0
  end
  if shared and from <= shared and from <= seq then
    -- Whole, if the first it needs is held, or only redacted ones precede what is.
    local head = low > 0 and low or seq + 1
    local whole = from + 1 >= head or (from + 1 > seq - keep and #tombs(ROOM, from + 1, head - 1) == head - 1 - from)
    if whole and take_after(missed, ROOM, from, tonumber(ARGV[17]), tonumber(ARGV[18])) then
      recovered = 1
    else
      missed = {}
    end
  end
end
return {
  '', exists and not again and 0 or 1, first and 1 or 0, epoch, seq, count, version, low, recovered,
  fork, users, missed,
}
