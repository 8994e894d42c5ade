-- Changing the sanctions. An entry is "id issued end text", times in ms on this
-- server's clock, end 0 for none. Every change has a version,
-- "line.number.token": line names a store since it was last empty-handed, and
-- token a change, because numbers come again after a failover that lost writes.
-- Instances are told "+" or "-", the version before, that after, and the entry.
local ALL, ENDS, VERSION = P .. 'all', P .. 'ends', P .. 'version'

-- Takes out what has ended, a bounded number of them.
local function purge(now)
  local over = redis.call('ZRANGEBYSCORE', ENDS, '-inf', now, 'LIMIT', 0, 1000)
  for _, id in ipairs(over) do
    redis.call('HDEL', ALL, id)
    redis.call('ZREM', ENDS, id)
  end
end

local function tell(sign, token, entry)
  local before = redis.call('GET', VERSION) or '-'
  local line, number = string.match(before, '^(%w+)%.(%d+)%.')
  local after = (line or token) .. '.' .. ((number or 0) + 1) .. '.' .. token
  redis.call('SET', VERSION, after)
  redis.call(PUBLISH, P .. 'changes', sign .. before .. ' ' .. after .. ' ' .. entry)
end
