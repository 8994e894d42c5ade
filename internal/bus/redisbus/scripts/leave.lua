-- Takes a member's presence on an instance away. ARGV: 1 member, 2 and 3 the
-- incarnations that may own it, 4 grace in ms (0: now), 5 reason. Replies of how many
-- it was taken, or is to be: one whose grace is running does not count, unless that
-- is cut short.
local ROOM, MEMBER = string.sub(KEYS[1], PREFIX + 3), ARGV[1]
local now, span = clock(), tonumber(ARGV[4])

local function leave(inc)
  local m = load(ROOM, MEMBER)
  for _, o in ipairs(m and m[5] or {}) do
    if o[1] == inc then
      if span <= 0 then
        disown(ROOM, MEMBER, inc, ARGV[5], now)
        return 1
      elseif o[3] > 0 then -- a running grace is not drawn out
        return 0
      end
      o[3], o[4] = now + span, ARGV[5]
      save(ROOM, MEMBER, m)
      grace(inc, ROOM, MEMBER, o[3])
      return 1
    end
  end
  disclaim(inc, ROOM, MEMBER) -- where only its place was left
  return 0
end

local n = leave(ARGV[2])
if ARGV[3] ~= ARGV[2] then n = n + leave(ARGV[3]) end
return n
