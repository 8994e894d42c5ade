-- Takes at most ARGV[2] members from a dead incarnation, ARGV[1]: each begins
-- the grace it entered with. Replies how many are left. d:<incarnation> tells
-- the instance, should it only have been paused, that its members were told to
-- have left.
local inc, set = ARGV[1], P .. 'i:' .. ARGV[1]
local now = clock()
redis.call('SET', P .. 'd:' .. inc, '1', 'PX', 3600000)
for _, entry in ipairs(redis.call('SRANDMEMBER', set, ARGV[2])) do
  local room, member = parse_place(entry)
  local m = load(room, member)
  for _, o in ipairs(m and m[5] or {}) do
    if o[1] == inc and o[3] == 0 then
      if o[2] > 0 then
        o[3], o[4] = now + o[2], ''
        save(room, member, m)
        grace(inc, room, member, o[3])
      else
        disown(room, member, inc, '', now)
      end
    end
  end
  redis.call('SREM', set, entry)
end
local left = redis.call('SCARD', set)
if left == 0 then redis.call('SREM', P .. 'n', inc) end
return left
