-- Makes keys, and all that carries a tag, invalid for ever: loads that are under way included.
-- KEYS: the clock. ARGV: prefix, origin, number of keys, the keys, the tags.
local prefix, origin, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local clock = KEYS[1]
local keys, tags, finished = {}, {}, {}

for i = 4, 3 + count do
  local key = ARGV[i]
  local lease = prefix .. 'l:' .. key
  local holder = get(lease)
  redis.call('UNLINK', prefix .. 'v:' .. key, lease)
  if holder and string.sub(holder, -1) == '!' then finished[#finished + 1] = key end
  keys[#keys + 1] = key
end

-- Where memory is short a number cannot be written. The tag is deleted then, which makes its entries invalid,
-- and so is the clock, which refuses the loads that are under way.
local function invalidate_tag(tag, number)
  local name = prefix .. 't:' .. tag
  local left = math.max(redis.call('PTTL', name), HOLD_MS)
  if try('SET', name, tag_value(tag, number, number), 'PX', left) == FULL then redis.call('DEL', name) end
  if try('ZADD', clock, number, 't:' .. tag) == FULL then redis.call('DEL', clock) end
end

local is_cleared = false
if #ARGV > 3 + count then
  local number = next_number(clock)
  for i = 4 + count, #ARGV do
    is_cleared = is_cleared or ARGV[i] == '*'
    tags[#tags + 1] = ARGV[i]
    invalidate_tag(ARGV[i], number)
  end
  local excess = redis.call('ZCARD', clock) - 2 * REMEMBERED
  if excess > 0 then
    local cut = excess + REMEMBERED
    local floor = redis.call('ZRANGE', clock, cut - 1, cut - 1, 'WITHSCORES')[2]
    redis.call('ZREMRANGEBYRANK', clock, 0, cut - 1)
    redis.call('ZADD', clock, floor, 'floor')
  end
end
tell(prefix, origin, 'k', keys)
if is_cleared then tell(prefix, origin, 'e', {''}) else tell(prefix, origin, 't', tags) end
tell(prefix, '', 'f', finished)
return 0
