-- Reads a page of chats. ARGV: 1 before or "0", 2 after or "0", 3 "1" to begin at
-- the oldest, 4 limit, 5 bytes of bodies (0: any). Replies {} when the room keeps
-- no history, else {epoch, seq, {seq, envelope, ...}}, newest first unless after
-- or 3 is given.
local ROOM = string.sub(KEYS[1], PREFIX + 3)
local meta = redis.call('HMGET', KEYS[1], 'e', 's')
if not meta[1] then return {} end
local before, after, limit, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[5])
local forward = after > 0 or ARGV[3] == '1'
local command, from, to = 'XREVRANGE', '+', '-'
if forward then
  command, from, to = 'XRANGE', after + 1, '+'
elseif before > 1 then
  from = before - 1
end
local out, n, size = {}, 0, 0
while n < limit and before ~= 1 do
  local chunk = redis.call(command, key('s', ROOM), from, to, 'COUNT', math.min(limit, 256))
  for _, entry in ipairs(chunk) do
    local envelope = entry[2][2]
    if string.byte(envelope, 2) == 1 then
      size = size + body_length(envelope)
      if n == limit or (bytes > 0 and size > bytes and n > 0) then return {meta[1], meta[2], out} end
      n = n + 1
      out[#out + 1] = seq_of(entry)
      out[#out + 1] = envelope
    end
  end
  if #chunk == 0 then break end
  local last = seq_of(chunk[#chunk])
  if forward then
    from = last + 1
  elseif last <= 1 then
    break
  else
    from = last - 1
  end
end
return {meta[1], meta[2], out}
