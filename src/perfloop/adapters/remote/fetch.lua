-- Looks values up, says which are still valid, and claims a lease for each that is to be loaded.
-- KEYS: the clock. ARGV: prefix, milliseconds of a lease or 0, early milliseconds, token, then the keys.
-- Answers three for each key: the bytes or nil, their age in milliseconds, and
--   -birth where the lease was claimed, milliseconds left where another holds it, 0 otherwise.
local prefix, lease_ms, early_ms, token = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local numbers, birth = {}, nil

local function number_of(tag)
  if numbers[tag] == nil then numbers[tag] = read_tag(prefix, tag) or false end
  return numbers[tag]
end

local function tags_of(raw, count, at)
  local tags = {'*'}
  for i = 2, count + 1 do tags[i], at = struct.unpack('>I2c0', raw, at) end
  return tags
end

local function entry_of(key)
  local name = prefix .. 'v:' .. key
  local raw = get(name)
  if not raw or #raw < HEAD_BYTES then return nil end
  local magic, born, ttl, stale, fail_safe, count, at = struct.unpack(HEAD, raw)
  if magic ~= MAGIC then return nil end
  local is_whole, tags = pcall(tags_of, raw, count, at)
  if not is_whole then return nil end
  local left = redis.call('PTTL', name)
  if left < 0 then return nil end
  for _, tag in ipairs(tags) do
    local number = number_of(tag)
    if not number or number > born then return nil end
  end
  return raw, math.max(0, ttl + stale + fail_safe - left), ttl
end

local function claimed()
  birth = birth or last_number(KEYS[1])
  return -birth
end

local function claim(key)
  local name = prefix .. 'l:' .. key
  local answer = try('SET', name, token, 'NX', 'PX', lease_ms)
  if answer == FULL then return 0 end
  if answer then return claimed() end
  local holder, left = get(name), redis.call('PTTL', name)
  if not holder or left < 0 then  -- of another type, or without an end: not of our making
    answer = try('SET', name, token, 'PX', lease_ms)
    return answer == FULL and 0 or claimed()
  end
  -- Whoever is told to wait is told of the end, also who waits behind a value that is served meanwhile.
  if string.sub(holder, -1) ~= '!' then try('SET', name, holder .. '!', 'XX', 'KEEPTTL') end
  return math.max(left, 1)
end

local answers = {}
for i = 5, #ARGV do
  local raw, age, ttl = entry_of(ARGV[i])
  local state = 0
  if lease_ms > 0 and not (raw and ttl - age > early_ms) then
    state = claim(ARGV[i])
  end
  local at = 3 * (i - 5)
  answers[at + 1], answers[at + 2], answers[at + 3] = raw or false, age or 0, state
end
return answers
