-- Looks for members of an incarnation. ARGV: 1 incarnation, then places. Replies the
-- places of those that it does not own, or that are in a grace: after a failover that
-- lost their coming back.
local SET, lost = P .. 'i:' .. ARGV[1], {}
for i = 2, #ARGV do
  local m, owned = load(parse_place(ARGV[i])), false
  for _, o in ipairs(m and m[5] or {}) do
    owned = owned or o[1] == ARGV[1] and o[3] == 0
  end
  if not owned or redis.call('SISMEMBER', SET, ARGV[i]) == 0 then lost[#lost + 1] = ARGV[i] end
end
return lost
