-- Write the number of a lease to a shard, unless a later holder has been there.
-- KEYS 1 fence
-- ARGV 1 number of the lease
-- Returns 1, or 0 where the fence is higher already.
if tonumber(redis.call('GET', KEYS[1]) or '0') > tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
