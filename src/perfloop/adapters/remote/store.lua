-- Stores values whose lease and tags still hold, and tells those who wait for them.
-- KEYS: the clock. ARGV: prefix, origin, then for each write: key, token or '' for a plain set, birth, '1'
-- where a load renews what others have, milliseconds to keep it, number of tags, the tags, and the bytes after the birth or '' to give the lease back. Answers for each 0: stored, 1: fenced, 2: no memory, 3: given back.
local prefix, origin = ARGV[1], ARGV[2]
local clock = KEYS[1]
local fresh = nil  -- the number of the tags that this call creates
local changed, finished, is_full = {}, {}, false

-- What the clock knows of the last invalidation of a tag that is missing: nothing later than this, at least.
local function remembered_fence(tag)
  local latest = try('ZSCORE', clock, 't:' .. tag) or try('ZSCORE', clock, 'floor')
  return latest and string.format('%.0f', latest) or next_number(clock)
end

local function is_fenced(tags, birth)
  for _, tag in ipairs(tags) do
    local _, fence = read_tag(prefix, tag)
    if tonumber(fence or remembered_fence(tag)) > birth then return true end
  end
  return false
end

local function is_missing(tags)
  for _, tag in ipairs(tags) do
    if not read_tag(prefix, tag) then return true end
  end
  return false
end

-- Sees to it that the tag exists for as long as the entry does.
local function keep_tag(tag, kept_ms)
  local name = prefix .. 't:' .. tag
  if not read_tag(prefix, tag) then
    return try('SET', name, tag_value(tag, fresh, remembered_fence(tag)), 'PX', kept_ms)
  end
  if redis.call('PTTL', name) < kept_ms then redis.call('PEXPIRE', name, kept_ms) end
end

-- The value is the first that is written: a script that has written anything is refused no memory any more.
local function put(key, kept_ms, tags, rest)
  local number = last_number(clock)
  if is_missing(tags) then
    fresh = fresh or next_number(clock)
    number = fresh
  end
  local name = prefix .. 'v:' .. key
  local bytes = struct.pack('>I2I8', MAGIC, number) .. rest
  is_full = is_full or try('SET', name, bytes, 'PX', kept_ms) == FULL
  if number == fresh and not is_full then
    is_full = try('ZADD', clock, fresh, 'last') == FULL
  end
  for _, tag in ipairs(tags) do
    is_full = is_full or keep_tag(tag, kept_ms + MARGIN_MS) == FULL
  end
  if is_full then redis.call('DEL', name) end
  return is_full and 2 or 0
end

local function outcome_of(key, token, birth, renews, kept_ms, tags, rest)
  if rest == '' then return 3 end
  if token ~= '' and is_fenced(tags, birth) then return 1 end
  if token == '' or renews then changed[#changed + 1] = key end
  return put(key, kept_ms, tags, rest)
end

local function store(key, token, ...)
  local lease = prefix .. 'l:' .. key
  local holder = get(lease)
  if token ~= '' and holder ~= token and holder ~= token .. '!' then
    finished[#finished + 1] = key  -- it may have been evicted, and with it the mark that somebody waits
    return 1
  end
  local outcome = outcome_of(key, token, ...)
  if holder then redis.call('DEL', lease) end
  if holder and string.sub(holder, -1) == '!' then finished[#finished + 1] = key end
  return outcome
end

local outcomes, i = {}, 3
while i <= #ARGV do
  local count, tags = tonumber(ARGV[i + 5]), {}
  for t = 1, count do tags[t] = ARGV[i + 5 + t] end
  tags[count + 1] = '*'
  local rest = ARGV[i + 6 + count]
  outcomes[#outcomes + 1] =
    store(ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3] == '1', tonumber(ARGV[i + 4]), tags, rest)
  i = i + 7 + count
end
tell(prefix, origin, 'k', changed)
tell(prefix, '', 'f', finished)
return outcomes
