-- Lifts a sanction. ARGV: 1 id, 2 token. Replies the entry, or "N" when there is
-- none in force under the id.
purge(clock())
local rest = redis.call('HGET', ALL, ARGV[1])
local ends = redis.call('ZSCORE', ENDS, ARGV[1])
if not rest or ends and tonumber(ends) <= clock() then return 'N' end
redis.call('HDEL', ALL, ARGV[1])
redis.call('ZREM', ENDS, ARGV[1])
tell('-', ARGV[2], ARGV[1] .. ' ' .. rest)
return ARGV[1] .. ' ' .. rest
