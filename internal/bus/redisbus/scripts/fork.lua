-- Forces a fork: an instance saw the epoch ARGV[1] go back behind what it had
-- delivered. ARGV[2] is the first seq that is not what it was, ARGV[3] a random
-- suffix. Replies the epoch, now or by someone else's doing another.
local meta = redis.call('HMGET', KEYS[1], 'e', 's', 'f')
if not meta[1] or meta[1] ~= ARGV[1] then return meta[1] or '' end
local e = epochs()
local epoch = e.fork(meta[1], ARGV[3])
local last = math.min(tonumber(meta[2]), tonumber(ARGV[2]) - 1)
-- Without ids: the next publish has no reason to fork once more.
redis.call('HSET', KEYS[1], 'e', epoch, 'r', '', 'f', e.add(meta[3], meta[1], last))
return epoch
