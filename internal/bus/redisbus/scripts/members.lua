-- Lists members by when they came. ARGV: 1 rank to go on from, 2 limit. Replies
-- {count, version, rank to go on from or 0, {users}}.
local ROOM = string.sub(KEYS[1], PREFIX + 3)
local limit = tonumber(ARGV[2])
local found = redis.call('ZRANGEBYSCORE', key('o', ROOM), '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, limit + 1)
local ids, next = {}, '0'
for i = 1, math.min(#found / 2, limit) do ids[i] = found[2 * i - 1] end
if #found / 2 > limit and limit > 0 then next = found[2 * limit] end
local users = {}
if #ids > 0 then
  for _, raw in ipairs(redis.call('HMGET', key('p', ROOM), unpack(ids))) do
    if raw then users[#users + 1] = cmsgpack.unpack(raw)[4] end -- else p was lost alone, and is about to be put back
  end
end
return {redis.call('HLEN', key('p', ROOM)), redis.call('HGET', KEYS[1], 'v') or '0', next, users}
