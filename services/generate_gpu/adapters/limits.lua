-- Limits and budgets: one script, so that all replicas count as one.
--
-- KEYS: one for each scope (a tenant, a user, a model), then the hash of what a shard's items were charged.
-- ARGV: 1 take, settle or look; 2 its request in msgpack (domain/limits.py). Returns msgpack.
--
-- A scope's hash holds calls (r<second>) and tokens (t<second>) of the last minute, calls of the day (c<day>), nano
-- dollars of the day (d<day>) and the month (m<month>), and those that are reserved (h). Beside it lie `:holds` and
-- `:open` (reservations by id, and when they end), and by lane `:queue` and `:demand` (who waits, and for how much).
-- `{limits}:seen` is when each scope was last used.
-- Times are Redis's own, so that clocks of replicas do not matter.

local LATE_S = 30 -- who waits and does not come back for so long has left the queue
local KEEP_S = 3456000

local request = cmsgpack.unpack(ARGV[2])
local SLOTS = request.window_s + 1  -- a slot is a second wide, so they are a minute at least
local clock = redis.call('TIME')
local second = tonumber(clock[1])
local now = second + tonumber(clock[2]) / 1000000
local day = math.floor(second / 86400)

-- Months since year 0: H. Hinnant, "chrono-compatible low-level date algorithms", civil_from_days.
local function month_of(days)
  local z = days + 719468
  local era = math.floor(z / 146097)
  local of_era = z - era * 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524) - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  return (era * 400 + year) * 12 + math.floor((5 * of_year + 2) / 153) + 2
end

local month = month_of(day)

local function numbers(text)
  local found = {}
  for word in string.gmatch(text, '%S+') do
    found[#found + 1] = tonumber(word)
  end
  return unpack(found)
end

-- What a scope has used; forgets what is past.
local function read(key)
  local found = {key = key, r = {}, t = {}, requests = 0, tokens = 0, c = 0, d = 0, m = 0, h = 0}
  local raw, stale = redis.call('HGETALL', key), {}
  local current = {c = day, d = day, m = month}
  for i = 1, #raw, 2 do
    local kind, at, value = string.sub(raw[i], 1, 1), tonumber(string.sub(raw[i], 2)), tonumber(raw[i + 1])
    if kind == 'h' then
      found.h = value
    elseif current[kind] then
      if at == current[kind] then found[kind] = value else stale[#stale + 1] = raw[i] end
    elseif at <= second - SLOTS or at > second + SLOTS then
      stale[#stale + 1] = raw[i]
    else
      found[kind][at] = value
      if kind == 'r' then found.requests = found.requests + value else found.tokens = found.tokens + value end
    end
  end
  if #stale > 0 then redis.call('HDEL', key, unpack(stale)) end
  return found
end

-- Reservations of calls that never reported back.
local function release(key)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key .. ':open', '-inf', now, 'LIMIT', 0, 100)) do
    local hold = redis.call('HGET', key .. ':holds', id)
    if hold then
      redis.call('HINCRBY', key, 'h', 0 - numbers(hold))  -- 0 where the scope had no budget
      redis.call('HDEL', key .. ':holds', id)
    end
    redis.call('ZREM', key .. ':open', id)
  end
end

local function leave(key, lane, id)
  local demand = key .. ':demand:' .. lane
  local entry = redis.call('HGET', demand, id)
  redis.call('ZREM', key .. ':queue:' .. lane, id)
  if entry then
    local requests, tokens = numbers(entry)
    redis.call('HINCRBY', demand, '+r', 0 - requests)  -- Redis takes no -0
    redis.call('HINCRBY', demand, '+t', 0 - tokens)
    redis.call('HDEL', demand, id)
  end
end

-- Wait in the queue, or go on waiting in the same place.
local function queue(key, lane, id, requests, tokens, due)
  local order, demand = key .. ':queue:' .. lane, key .. ':demand:' .. lane
  local place = redis.call('ZSCORE', order, id)
  leave(key, lane, id)
  redis.call('ZADD', order, place or now, id)
  redis.call('HSET', demand, id, string.format('%d %d %.3f', requests, tokens, due))
  redis.call('HINCRBY', demand, '+r', requests)
  redis.call('HINCRBY', demand, '+t', tokens)
  redis.call('EXPIRE', order, KEEP_S)
  redis.call('EXPIRE', demand, KEEP_S)
end

-- Calls and tokens that wait in a lane.
local function waiting(key, lane)
  local found = redis.call('HMGET', key .. ':demand:' .. lane, '+r', '+t')
  return tonumber(found[1] or 0), tonumber(found[2] or 0)
end

-- Those who wait in front of this one; of its own lane by its place, taking all for equally large.
local function ahead(key, lane, id)
  for _, each in ipairs({'interactive', 'batch'}) do
    for _ = 1, 8 do
      local head = redis.call('ZRANGE', key .. ':queue:' .. each, 0, 0)[1]
      local entry = head and redis.call('HGET', key .. ':demand:' .. each, head)
      if not entry then break end
      local _, _, due = numbers(entry)
      if due + LATE_S >= now then break end
      leave(key, each, head)
    end
  end
  local requests, tokens = waiting(key, lane)
  local rank = redis.call('ZRANK', key .. ':queue:' .. lane, id)
  if rank then
    local part = rank / redis.call('ZCARD', key .. ':queue:' .. lane)
    requests, tokens = math.floor(requests * part), math.floor(tokens * part)
  end
  if lane == 'batch' then
    local people, their_tokens = waiting(key, 'interactive')
    requests, tokens = requests + people, tokens + their_tokens
  end
  return requests, tokens
end

-- Seconds until there is room for `amount` more; 0: now. More than the limit takes several minutes.
local function pause(slots, used, amount, limit)
  local rounds = math.max(0, math.ceil(amount / limit) - 1)
  local excess = used + amount - rounds * limit - limit
  if excess <= 0 then return rounds * SLOTS end
  for at = second - SLOTS + 1, second + SLOTS do
    excess = excess - (slots[at] or 0)
    if excess <= 0 then return rounds * SLOTS + at + SLOTS - now end
  end
  return (rounds + 1) * SLOTS
end

-- Batch work gets its share, but at least one call.
local function allowed(limit, own)
  if request.lane ~= 'batch' then return limit end
  return math.max(math.floor(limit * request.share), math.min(own, limit))
end

-- How long a scope makes these sums wait, and by which limit; `own` is the call that comes last.
local function wait_of(scope, sums, own)
  local bound, longest, limit = scope.bound, 0, ''
  local function note(seconds, name)
    if seconds > longest then longest, limit = seconds, name end
  end
  if bound.rpm >= 0 then
    note(pause(scope.r, scope.requests, scope.ahead_requests + sums.requests, allowed(bound.rpm, 1)), 'rpm')
  end
  if bound.tpm >= 0 then
    note(pause(scope.t, scope.tokens, scope.ahead_tokens + sums.tokens, allowed(bound.tpm, own.tokens)), 'tpm')
  end
  if bound.rpd >= 0 and scope.c + sums.requests > allowed(bound.rpd, 1) then
    note((day + 1) * 86400 - now, 'rpd')
  end
  -- what others have reserved mostly turns out to be less
  if bound.usd_day >= 0 and scope.d + scope.h + sums.nano > bound.usd_day then note(1, 'usd_day') end
  if bound.usd_month >= 0 and scope.m + scope.h + sums.nano > bound.usd_month then note(1, 'usd_month') end
  return longest, limit
end

-- The limit that can never let this call through as things are; none: nil.
local function never(scopes, ask)
  for i, scope in ipairs(scopes) do
    local bound = scope.bound
    if bound.tpm >= 0 and ask.tokens > bound.tpm then
      return {n = ask.n, scope = i - 1, limit = 'tpm', used = ask.tokens, held = 0}
    end
    if bound.usd_month >= 0 and scope.m + ask.nano > bound.usd_month then
      return {n = ask.n, scope = i - 1, limit = 'usd_month', used = scope.m, held = scope.h}
    end
    if bound.usd_day >= 0 and scope.d + ask.nano > bound.usd_day then
      return {n = ask.n, scope = i - 1, limit = 'usd_day', used = scope.d, held = scope.h}
    end
  end
  return nil
end

local function longest_wait(scopes, sums, own)
  local found = {wait = 0, scope = 0, limit = '', blocking = {}}
  for i, scope in ipairs(scopes) do
    local seconds, limit = wait_of(scope, sums, own)
    if seconds > 0 then found.blocking[#found.blocking + 1] = scope end
    if seconds > found.wait then found.wait, found.scope, found.limit = seconds, i - 1, limit end
  end
  return found
end

-- What an item has reserved before. A hold has one time, so its tokens move to the present second, or settling would
-- take all of them from there; those that have left the window are nobody's any more.
local function held_before(key, id)
  local nano, tokens, at = numbers(redis.call('HGET', key .. ':holds', id) or '0 0 0')
  if tokens == 0 or at <= second - SLOTS then return nano, 0 end
  redis.call('HINCRBY', key, 't' .. at, 0 - tokens)
  redis.call('HINCRBY', key, 't' .. second, tokens)
  return nano, tokens
end

-- A hold has only what its scope counts: what was never added must not be taken away.
local function reserve(scope, granted)
  local key, bound = scope.key, scope.bound
  local of_tokens, of_dollars = bound.tpm >= 0, bound.usd_day >= 0 or bound.usd_month >= 0
  local tokens, nano = 0, 0
  for _, ask in ipairs(granted) do
    local more_tokens, more_nano = of_tokens and ask.tokens or 0, of_dollars and ask.nano or 0
    tokens, nano = tokens + more_tokens, nano + more_nano
    if of_tokens or of_dollars then
      local id = request.id .. '/' .. ask.n
      local old_nano, old_tokens = held_before(key, id)
      redis.call('HSET', key .. ':holds', id, string.format('%d %d %d', old_nano + more_nano, old_tokens + more_tokens, second))
      redis.call('ZADD', key .. ':open', now + request.reserve_s, id)
    end
  end
  if bound.rpm >= 0 then redis.call('HINCRBY', key, 'r' .. second, #granted) end
  if tokens > 0 then redis.call('HINCRBY', key, 't' .. second, tokens) end
  if bound.rpd >= 0 then redis.call('HINCRBY', key, 'c' .. day, #granted) end
  if nano > 0 then redis.call('HINCRBY', key, 'h', nano) end
  redis.call('ZADD', '{limits}:seen', now, key)
  redis.call('EXPIRE', key, KEEP_S)
  redis.call('EXPIRE', key .. ':holds', KEEP_S)
  redis.call('EXPIRE', key .. ':open', KEEP_S)
end

-- Room for the first asks that fit; the others wait in line, unless that takes longer than they have patience for.
local function take()
  local scopes = {}
  for i, bound in ipairs(request.bounds) do
    release(KEYS[i])
    scopes[i] = read(KEYS[i])
    scopes[i].bound = bound
    scopes[i].ahead_requests, scopes[i].ahead_tokens = ahead(KEYS[i], request.lane, request.line)
  end
  local sums = {requests = 0, tokens = 0, nano = 0}
  local granted, over, left = {}, {}, {}
  local first = {wait = 0, scope = 0, limit = '', blocking = {}}
  local last = first
  for _, ask in ipairs(request.asks) do
    local refused = never(scopes, ask)
    if refused then
      over[#over + 1] = refused
    else
      sums = {requests = sums.requests + 1, tokens = sums.tokens + ask.tokens, nano = sums.nano + ask.nano}
      if #left == 0 then
        first = longest_wait(scopes, sums, ask)
      end
      if first.wait > 0 then left[#left + 1] = ask else granted[#granted + 1] = ask end
    end
  end
  if #left > 0 then last = longest_wait(scopes, sums, left[#left]) end
  local patient, tokens, queues = 0, 0, {}
  for _, ask in ipairs(left) do
    if ask.patience_s < 0 or first.wait <= ask.patience_s then
      patient, tokens = patient + 1, tokens + ask.tokens
    end
  end
  if patient > 0 then
    for _, scope in ipairs(first.blocking) do queues[scope.key] = true end
  end
  for _, scope in ipairs(scopes) do
    if #granted > 0 then reserve(scope, granted) end
    if queues[scope.key] then
      local due = now + math.min(first.wait, request.longest_s)
      queue(scope.key, request.lane, request.line, patient, tokens, due)
    else
      leave(scope.key, request.lane, request.line)
    end
  end
  local numbers_granted = {}
  for i, ask in ipairs(granted) do numbers_granted[i] = ask.n end
  return {
    now = now, granted = numbers_granted, over = over,
    wait_s = first.wait, last_s = math.max(first.wait, last.wait), scope = first.scope, limit = first.limit,
  }
end

-- What calls have really used, so far and in all: a second time changes nothing. Room that nobody used is given back.
local function settle()
  for i, bound in ipairs(request.bounds) do
    for _, at in ipairs(request.unused) do
      if bound.rpm >= 0 and at > second - SLOTS then redis.call('HINCRBY', KEYS[i], 'r' .. at, -1) end
      if bound.rpd >= 0 and math.floor(at / 86400) == day then redis.call('HINCRBY', KEYS[i], 'c' .. day, -1) end
    end
  end
  local charged_key = KEYS[#request.bounds + 1]
  for _, spent in ipairs(request.spent) do
    local id = request.id .. '/' .. spent.n
    local tokens, nano = numbers(redis.call('HGET', charged_key, spent.n) or '0 0')
    local more_tokens, more_nano = spent.tokens - tokens, spent.nano - nano
    for i, bound in ipairs(request.bounds) do
      local key = KEYS[i]
      local hold = redis.call('HGET', key .. ':holds', id)
      local held, reserved, at = 0, 0, second
      if hold then
        held, reserved, at = numbers(hold)
        redis.call('HDEL', key .. ':holds', id)
        redis.call('ZREM', key .. ':open', id)
      end
      if bound.tpm >= 0 then
        if at <= second - SLOTS then at, reserved = second, 0 end
        local difference = more_tokens - reserved
        if difference ~= 0 then redis.call('HINCRBY', key, 't' .. at, difference) end
      end
      if held ~= 0 then redis.call('HINCRBY', key, 'h', -held) end  -- also where the scope has lost its budget since
      if (bound.usd_day >= 0 or bound.usd_month >= 0) and more_nano ~= 0 then
        redis.call('HINCRBY', key, 'd' .. day, more_nano)
        redis.call('HINCRBY', key, 'm' .. month, more_nano)
      end
    end
    if more_tokens ~= 0 or more_nano ~= 0 then
      redis.call('HSET', charged_key, spent.n, string.format('%d %d', spent.tokens, spent.nano))
    end
  end
  redis.call('EXPIRE', charged_key, request.keep_s)
  return {}
end

local function look()
  local found = {}
  for i = 1, request.scopes do
    release(KEYS[i])
    local scope = read(KEYS[i])
    found[i] = {
      requests = scope.requests, tokens = scope.tokens, today = scope.c, day = scope.d, month = scope.m, held = scope.h,
      interactive = (waiting(KEYS[i], 'interactive')), batch = (waiting(KEYS[i], 'batch')),
    }
  end
  return {now = now, scopes = found}
end

local operations = {take = take, settle = settle, look = look}
return cmsgpack.pack(operations[ARGV[1]]())
