-- The breaker of one model, the same for all replicas. Times are the server's, in milliseconds.
-- KEYS: 1 the model's hash: epoch (rises with every change), errors and late (calls in a row), notbefore (Retry-After:
--       nobody calls before, open or not), asked (since when it asks for that), why, and while it is open until,
--       since, opened (times in a row), from (the epoch it opened in), probe (until when nobody else may make one)
-- ARGV: 'look'
--       'ask', milliseconds that a probe may take
--       'tell', epoch, outcome (ok, slow, failed, unknown), judged (0, 1), how many in a row open it, milliseconds it
--       is open at first, and at most, jitter (0…1), milliseconds of Retry-After, why
-- Returns {state, epoch, milliseconds until it is worth asking again, milliseconds since it opened, why}.
-- State 0: closed; 1: half open, and whoever asked makes the probe; 2: open, or closed and asked to wait. Who looks
-- hears 2 of one that is half open: most who ask then will.
local key = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function number(field)
  return tonumber(redis.call('HGET', key, field) or '0')
end
local epoch = number('epoch')
local function open()
  local since = redis.call('HGET', key, 'since') or now
  local left = math.max(number('until') - now, math.min(number('probe') - now, 1000), 1)
  return {2, epoch, left, now - since, redis.call('HGET', key, 'why') or ''}
end

if ARGV[1] ~= 'tell' then
  if number('until') == 0 then
    if now < number('notbefore') then
      return {2, epoch, number('notbefore') - now, now - number('asked'), redis.call('HGET', key, 'why') or ''}
    end
    return {0, epoch, 0, 0, ''}
  end
  if ARGV[1] == 'look' or now < number('until') or now < number('probe') then
    return open()
  end
  epoch = redis.call('HINCRBY', key, 'epoch', 1)
  redis.call('HSET', key, 'probe', now + ARGV[2])
  return {1, epoch, 0, now - number('since'), redis.call('HGET', key, 'why') or ''}
end

local outcome, judged, enough = ARGV[3], ARGV[4] == '1', tonumber(ARGV[5])
local is_open = number('until') > 0
local told = tonumber(ARGV[2])
if outcome == 'unknown' and told == epoch then
  redis.call('HDEL', key, 'probe')
end
if tonumber(ARGV[9]) > 0 then  -- of any call: a time to come is no news of the past
  if now >= number('notbefore') then
    redis.call('HSET', key, 'asked', now)
  end
  local notbefore = math.max(number('notbefore'), now + ARGV[9])
  redis.call('HSET', key, 'notbefore', notbefore)
  if is_open then
    redis.call('HSET', key, 'until', math.max(number('until'), notbefore))
  else
    redis.call('HSET', key, 'why', ARGV[10])
  end
  redis.call('EXPIRE', key, 86400)
end
-- a call that began before the breaker last opened or closed says nothing about now
local counts = told == epoch or is_open and told > number('from')
if outcome == 'unknown' or not counts then
  return is_open and open() or {0, epoch, 0, 0, ''}
end
local bad = outcome == 'failed' or outcome == 'slow'
if not is_open then
  if redis.call('EXISTS', key) == 0 and not bad then
    return {0, epoch, 0, 0, ''}
  end
  local errors = outcome == 'failed' and number('errors') + 1 or 0
  local late = number('late')
  if judged then
    late = bad and late + 1 or 0
  end
  redis.call('HSET', key, 'errors', errors, 'late', late)
  redis.call('EXPIRE', key, 86400)
  if math.max(errors, late) < enough then
    return {0, epoch, 0, 0, ''}
  end
elseif not bad then
  redis.call('HDEL', key, 'until', 'since', 'opened', 'from', 'why', 'probe', 'errors', 'late', 'notbefore',
    'asked')
  return {0, redis.call('HINCRBY', key, 'epoch', 1), 0, 0, ''}
end
local opened = redis.call('HINCRBY', key, 'opened', 1)
local pause = math.min(ARGV[6] * 2 ^ math.min(opened - 1, 20), tonumber(ARGV[7])) * ARGV[8]
redis.call('HSET', key, 'until', math.floor(math.max(now + pause, number('notbefore'))), 'why', ARGV[10])
redis.call('HSETNX', key, 'since', now)
redis.call('HDEL', key, 'probe', 'errors', 'late')
redis.call('EXPIRE', key, 86400)
epoch = redis.call('HINCRBY', key, 'epoch', 1)
redis.call('HSET', key, 'from', epoch)
return open()
