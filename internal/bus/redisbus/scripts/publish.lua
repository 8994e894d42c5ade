-- Stores and publishes one message. ARGV as append.lua, and: 7 the idempotency
-- key's hash or "", 8 digest (16 bytes), message id (16 bytes) and time.
-- Replies "S<epoch> <seq>[!]" stored; "D<digest, id><time> <epoch> <seq>" the
-- key's first message; "K" key used with another message; "X" overtaken, not
-- stored and never to be.
local before = seen()
if before then return before end
local idem = ARGV[7] ~= '' and P .. 'k:' .. ARGV[7]
if idem then
  local first = redis.call('GET', idem)
  if first then
    if string.sub(first, 1, 16) ~= string.sub(ARGV[8], 1, 16) then return 'K' end
    return 'D' .. first
  end
end
local at, mark = append(meta())
if not at then return mark end
if idem then redis.call('SET', idem, ARGV[8] .. ' ' .. at, 'PX', KEY_TTL) end
return 'S' .. at .. mark
