-- Arrive: count a child once, whatever happens.
-- KEYS: 1 the group's hash, 2 its bitmap, 3 its list of indices with failures
-- ARGV: 1 index, 2 succeeded, 3 failed, 4 prompt tokens, 5 cached tokens, 6 completion tokens, 7 calls,
--       8 cost in nano dollars, 9 milliseconds of work, 10 seconds to live, then pairs of another field and its count
-- Returns {arrived, size, mark}. Size 0: the group is not known here, recount it from its stream. Mark: so many have
-- arrived that more of the group should be opened; 0 otherwise.
local size = tonumber(redis.call('HGET', KEYS[1], 'size') or '0')
if size == 0 then
  return {0, 0, 0}
end
if redis.call('SETBIT', KEYS[2], ARGV[1], 1) == 0 then
  redis.call('HINCRBY', KEYS[1], 'arrived', 1)
  local names = {'succeeded', 'failed', 'prompt_tokens', 'cached_tokens', 'completion_tokens', 'calls', 'cost_nano', 'spent_ms'}
  for i, name in ipairs(names) do
    local value = ARGV[i + 1]
    if value ~= '0' then
      redis.call('HINCRBY', KEYS[1], name, value)
    end
  end
  if ARGV[3] ~= '0' then
    redis.call('RPUSH', KEYS[3], ARGV[1])
    redis.call('EXPIRE', KEYS[3], ARGV[10])
  end
  for i = 11, #ARGV, 2 do
    redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])
  end
  redis.call('EXPIRE', KEYS[1], ARGV[10])
  redis.call('EXPIRE', KEYS[2], ARGV[10])
end
local arrived = tonumber(redis.call('HGET', KEYS[1], 'arrived') or '0')
local mark = tonumber(redis.call('HGET', KEYS[1], 'mark') or '0')
if arrived < mark then
  mark = 0
end
return {arrived, size, mark}
