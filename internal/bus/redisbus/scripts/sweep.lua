-- Ends the graces that are over, at most ARGV[1] of them, and replies how many.
local now = clock()
local due = redis.call('ZRANGEBYSCORE', P .. 'g', '-inf', now, 'LIMIT', 0, ARGV[1])
for _, entry in ipairs(due) do
  local inc, rest = string.match(entry, '^([^:]*):(.*)$')
  local room, member = parse_place(rest)
  disown(room, member, inc, nil, now)
  redis.call('ZREM', P .. 'g', entry) -- also where the presence it spoke of is gone
end
return #due
