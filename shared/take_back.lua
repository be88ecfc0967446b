-- Take back: uncount a child that arrived as a dead letter, while its group still waits for others.
-- KEYS and ARGV: as in groups.lua
-- Returns 1: the child is not counted (any more), and the group remembers that somebody took one back; 0: the group is
-- complete, or not known here.
local size = tonumber(redis.call('HGET', KEYS[1], 'size') or '0')
local arrived = tonumber(redis.call('HGET', KEYS[1], 'arrived') or '0')
if arrived >= size then
  return 0
end
if redis.call('SETBIT', KEYS[2], ARGV[1], 0) == 1 then
  redis.call('HINCRBY', KEYS[1], 'arrived', -1)
  local names = {'succeeded', 'failed', 'prompt_tokens', 'cached_tokens', 'completion_tokens', 'calls', 'cost_nano',
    'spent_ms'}
  for i, name in ipairs(names) do
    if ARGV[i + 1] ~= '0' then
      redis.call('HINCRBY', KEYS[1], name, '-' .. ARGV[i + 1])
    end
  end
  for i = 11, #ARGV, 2 do
    redis.call('HINCRBY', KEYS[1], ARGV[i], '-' .. ARGV[i + 1])
  end
  redis.call('LREM', KEYS[3], 0, ARGV[1])
end
redis.call('HINCRBY', KEYS[1], 'taken_back', 1)
return 1
