-- Tells where the sanctions stand: {version or "-", how many are in force, ms on
-- this server's clock}. Changes nothing.
local now = clock()
local all, over = redis.call('HLEN', P .. 'all'), redis.call('ZCOUNT', P .. 'ends', '-inf', now)
return {redis.call('GET', P .. 'version') or '-', all - over, now}
