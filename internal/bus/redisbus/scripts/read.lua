-- Reading a stream. Bytes 3 to 6 of an envelope are the length of its body,
-- byte 2 is its kind: envelope.go.
local function body_length(envelope)
  local a, b, c, d = string.byte(envelope, 3, 6)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

local function seq_of(entry) return tonumber(string.match(entry[1], '^%d+')) end

-- The lowest seq held, or 0.
local function oldest(room)
  local first = redis.call('XRANGE', key('s', room), '-', '+', 'COUNT', 1)[1]
  return first and seq_of(first) or 0
end

-- The redacted seqs from one to another, both included.
local function tombs(room, from, to)
  if from > to then return {} end
  return redis.call('ZRANGEBYSCORE', key('x', room), from, to)
end

-- Appends to out: seq, envelope, ... after a seq, and reports whether all fit
-- into max events (0: any number) and bytes of bodies (0: any).
local function take_after(out, room, after, max, bytes)
  local n, size, from = 0, 0, after + 1
  while true do
    local chunk = redis.call('XRANGE', key('s', room), from, '+', 'COUNT', 256)
    for _, entry in ipairs(chunk) do
      local envelope = entry[2][2]
      n, size = n + 1, size + body_length(envelope)
      if (max > 0 and n > max) or (bytes > 0 and size > bytes) then return false end
      out[#out + 1] = seq_of(entry)
      out[#out + 1] = envelope
    end
    if #chunk < 256 then return true end
    from = seq_of(chunk[#chunk]) + 1
  end
end
