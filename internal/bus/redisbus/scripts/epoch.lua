-- Epochs. An epoch is a lineage, random at the room's birth, followed by a
-- random suffix for each fork: what shares a lineage shares a beginning.
-- meta.f lists the last forks as "epoch:seq;", oldest first: seq is the last
-- that epoch has in common with what came after it.
local FORKS = 8

local function lineage(epoch) return string.match(epoch, '^[^.]*') end

local function add_fork(forks, epoch, seq)
  forks = (forks or '') .. epoch .. ':' .. int(seq) .. ';'
  local _, n = string.gsub(forks, ';', '')
  if n > FORKS then forks = string.match(forks, '^[^;]*;(.*)$') end
  return forks
end

-- The last seq that a reader of the given epoch has in common with the current
-- one, or nil when nothing is known of that epoch. Forks after the reader's own
-- may have gone further back. Of an epoch of the same lineage that is no longer
-- listed, the earliest listed fork is certainly good.
local function common(current, forks, epoch)
  local own, all
  for e, s in string.gmatch(forks or '', '([^:;]+):(%d+);') do
    s = tonumber(s)
    if e == epoch then own = s elseif own and s < own then own = s end
    if not all or s < all then all = s end
  end
  if own then return own end
  if lineage(epoch) == lineage(current) then return all or 0 end
  return nil
end

-- What a server is now: its run id changes with a restart, its replication id
-- with a promotion. Publishers read the same when they connect and pass it
-- along; only when that differs from meta is the server asked, because a
-- connection outlives some changes of the replication id.
local function server_ids(passed)
  local s, r = redis.pcall('INFO', 'server'), redis.pcall('INFO', 'replication')
  if type(s) ~= 'string' or type(r) ~= 'string' then return passed end
  local run, repl = string.match(s, 'run_id:(%x+)'), string.match(r, 'master_replid:(%x+)')
  if not run or not repl then return passed end
  return string.sub(redis.sha1hex(run .. repl), 1, 16)
end
