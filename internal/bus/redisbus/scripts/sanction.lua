-- Puts a sanction in force. ARGV: 1 id, 2 text, 3 ms until it ends (0: it does
-- not), 4 "1" if it lasts, 5 how many there may be, 6 token. Replies the entry,
-- the first one where the id is known, or "F" when there are too many.
local now = clock()
local left = tonumber(ARGV[3])
local rest = now .. ' ' .. (left > 0 and now + left or 0) .. ' ' .. ARGV[2]
if ARGV[4] ~= '1' then
  redis.call(PUBLISH, P .. 'changes', '!' .. ARGV[1] .. ' ' .. rest)
  return ARGV[1] .. ' ' .. rest
end
purge(now)
local first = redis.call('HGET', ALL, ARGV[1])
if first then return ARGV[1] .. ' ' .. first end
if redis.call('HLEN', ALL) >= tonumber(ARGV[5]) then return 'F' end
redis.call('HSET', ALL, ARGV[1], rest)
if left > 0 then redis.call('ZADD', ENDS, now + left, ARGV[1]) end
tell('+', ARGV[6], ARGV[1] .. ' ' .. rest)
return ARGV[1] .. ' ' .. rest
