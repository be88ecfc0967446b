-- Arrive: count a child once, whatever happens.
-- KEYS: 1 the group's hash, 2 its bitmap, 3 its list of indices with failures
-- ARGV: 1 index, 2 succeeded, 3 failed, 4 prompt tokens, 5 cached tokens, 6 completion tokens, 7 calls,
--       8 cost in nano dollars, 9 seconds to live
-- Returns {arrived, size}; size 0: the group is not known here, recount it from its stream.
local size = tonumber(redis.call('HGET', KEYS[1], 'size') or '0')
if size == 0 then
  return {0, 0}
end
if redis.call('SETBIT', KEYS[2], ARGV[1], 1) == 0 then
  redis.call('HINCRBY', KEYS[1], 'arrived', 1)
  local names = {'succeeded', 'failed', 'prompt_tokens', 'cached_tokens', 'completion_tokens', 'calls', 'cost_nano'}
  for i, name in ipairs(names) do
    local value = ARGV[i + 1]
    if value ~= '0' then
      redis.call('HINCRBY', KEYS[1], name, value)
    end
  end
  if ARGV[3] ~= '0' then
    redis.call('RPUSH', KEYS[3], ARGV[1])
    redis.call('EXPIRE', KEYS[3], ARGV[9])
  end
  redis.call('EXPIRE', KEYS[1], ARGV[9])
  redis.call('EXPIRE', KEYS[2], ARGV[9])
end
return {tonumber(redis.call('HGET', KEYS[1], 'arrived') or '0'), size}
