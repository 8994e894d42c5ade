-- Takes a member's presence on an incarnation away. ARGV: 1 member,
-- 2 incarnation, 3 grace in ms (0: now), 4 reason. Replies 0 or 1: had it any.
local ROOM = string.sub(KEYS[1], PREFIX + 3)
local m = load(ROOM, ARGV[1])
local own
for _, o in ipairs(m and m[5] or {}) do
  if o[1] == ARGV[2] then own = o end
end
if not own then return 0 end
local now, span = clock(), tonumber(ARGV[3])
if span <= 0 then
  disown(ROOM, ARGV[1], ARGV[2], ARGV[4], now)
elseif own[3] == 0 then -- a running grace is not drawn out
  own[3], own[4] = now + span, ARGV[4]
  save(ROOM, ARGV[1], m)
  grace(ARGV[2], ROOM, ARGV[1], own[3])
end
return 1
