-- Epochs. An epoch is a lineage, random at the room's birth, followed by a
-- random suffix for each fork: what shares a lineage shares a beginning.
-- meta.f lists the last forks as "epoch:seq;", oldest first: seq is the last
-- that epoch has in common with what came after it.
--
-- All in one function, because making functions takes time and the script that
-- runs for every message hardly ever needs them.
local function epochs()
  local FORKS = 8
  local self = {}

  function self.lineage(epoch) return string.match(epoch, '^[^.]*') end

  function self.fork(epoch, suffix) return self.lineage(epoch) .. '.' .. suffix end

  function self.add(forks, epoch, seq)
    forks = (forks or '') .. epoch .. ':' .. seq .. ';'
    local _, n = string.gsub(forks, ';', '')
    if n > FORKS then forks = string.match(forks, '^[^;]*;(.*)$') end
    return forks
  end

  -- The last seq that a reader of the given epoch has in common with the
  -- current one, or nil when nothing is known of that epoch. Forks after the
  -- reader's own may have gone further back. Of an epoch of the same lineage
  -- that is no longer listed, the earliest listed fork is certainly good.
  function self.common(current, forks, epoch)
    local own, all
    for e, s in string.gmatch(forks or '', '([^:;]+):(%d+);') do
      s = tonumber(s)
      if e == epoch then own = s elseif own and s < own then own = s end
      if not all or s < all then all = s end
    end
    if own then return own end
    if self.lineage(epoch) == self.lineage(current) then return all or 0 end
    return nil
  end

  -- What a server is now: its run id changes with a restart, its replication id
  -- with a promotion. Publishers read the same when they connect and pass it
  -- along; only when that differs from meta is the server asked, because a
  -- connection outlives some changes of the replication id.
  function self.server(passed)
    local s, r = redis.pcall('INFO', 'server'), redis.pcall('INFO', 'replication')
    if type(s) ~= 'string' or type(r) ~= 'string' then return passed end
    local run, repl = string.match(s, 'run_id:(%x+)'), string.match(r, 'master_replid:(%x+)')
    if not run or not repl then return passed end
    return string.sub(redis.sha1hex(run .. repl), 1, 16)
  end

  return self
end
