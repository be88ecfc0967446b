-- Keeps an answer. Everything of a tenant lies in three keys, so that it can be counted, and forgotten as one.
-- KEYS: answers (hash, id → answer), questions (hash, id → question with its vector), order (zset, ids by microseconds).
-- ARGV: id, answer, question (empty: not to be found by likeness), most answers, seconds they are kept.
local now = redis.call('TIME')
local at = now[1] * 1000000 + now[2]

redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
end
redis.call('ZADD', KEYS[3], at, ARGV[1])

local gone = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', at - ARGV[5] * 1000000, 'LIMIT', 0, 100)
local over = redis.call('ZCARD', KEYS[3]) - #gone - ARGV[4]
if over > 0 then
  for _, id in ipairs(redis.call('ZRANGE', KEYS[3], #gone, #gone + over - 1)) do
    gone[#gone + 1] = id
  end
end
for _, id in ipairs(gone) do
  redis.call('HDEL', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
  redis.call('ZREM', KEYS[3], id)
end

for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, ARGV[5])
end
return #gone
