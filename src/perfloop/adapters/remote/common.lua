-- Stands before each of the scripts: their constants, and what they share.
local MAGIC, HEAD, HEAD_BYTES = 20529, '>I2I8I8I8I8I2', 36
local HOLD_MS = 60000       -- an invalidated tag stays at least as long as the loads that it fences
local MARGIN_MS = 1000      -- a tag ends after its entries
local REMEMBERED = 512      -- of the latest tags, their numbers are kept by the clock as well
local FULL = {}             -- the server has no memory left

-- Only two errors are of this cache's business: no memory, and a key that holds what is not ours.
local function try(...)
  local answer = redis.pcall(...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if string.find(answer.err, 'OOM', 1, true) then return FULL end
  if string.find(answer.err, 'WRONGTYPE', 1, true) then return nil end
  error(answer.err, 0)
end

local function get(name)
  return try('GET', name) or nil
end

-- A tag is 'number:fence', and the server's run id after that for the tag of everything. Entries born before the
-- number are invalid; loads begun before the fence are refused. Both are that of the last invalidation, but a tag
-- that was missing has a new number, since nobody knows what it missed, and the fence that the clock remembers.
-- Nil where it is missing: evicted, ended, or never used.
local function read_tag(prefix, tag)
  local value = get(prefix .. 't:' .. tag)
  if not value then return nil end
  local number, fence = string.match(value, '^(%d+):(%d+)')
  return tonumber(number), tonumber(fence)
end

-- Asked of the server itself: whoever calls may have been told before the server changed.
local function run_id()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or 'unknown'
end

local function tag_value(tag, number, fence)
  local value = number .. ':' .. fence
  return tag == '*' and value .. ':' .. run_id() or value
end

local function time_us()
  local now = redis.call('TIME')
  return now[1] * 1000000 + now[2]
end

-- The highest number given out. A clock that is new refuses all loads that began before it. It begins above the
-- number that is kept beside it: the clock may have been evicted, and the server's time may have been set back.
local function last_number(clock)
  local last = try('ZRANGE', clock, -1, -1, 'WITHSCORES')
  if last == nil then
    redis.call('DEL', clock)
    last = {}
  end
  if last[2] then return tonumber(last[2]) end
  local kept = get(clock .. ':last')
  local now = math.max(time_us(), kept and tonumber(kept) + 1 or 0)
  local number = string.format('%.0f', now)
  try('ZADD', clock, number, 'floor')
  try('SET', clock .. ':last', number)
  return now
end

-- Never goes back, even where the clock was evicted or flushed: then the server's time goes on above it.
local function next_number(clock)
  local number = string.format('%.0f', math.max(last_number(clock) + 1, time_us()))
  try('SET', clock .. ':last', number)
  return number
end

local function tell(prefix, origin, kind, names)
  if #names == 0 then return end
  local parts = {kind, struct.pack('>I2c0', #origin, origin)}
  for i, name in ipairs(names) do parts[i + 2] = struct.pack('>I4c0', #name, name) end
  redis.call('PUBLISH', prefix .. 'news', table.concat(parts))
end
