-- Run by each connection before anything else. A server that was restarted or that took over may have gone back
-- to an earlier state, without the latest invalidations: then nothing of that state is valid.
-- KEYS: the clock. ARGV: prefix.
local name = ARGV[1] .. 't:*'
local value = get(name)
if value and string.match(value, '^%d+:%d+:(.*)$') == run_id() then return 0 end
local number = next_number(KEYS[1])
local left = math.max(redis.call('PTTL', name), HOLD_MS)
if try('SET', name, tag_value('*', number, number), 'PX', left) == FULL then redis.call('DEL', name) end
if try('ZADD', KEYS[1], number, 't:*') == FULL then redis.call('DEL', KEYS[1]) end
return 1
