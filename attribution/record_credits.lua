-- Append decisions and note how far the worker has come, in one step. Only for the holder of the role.
-- KEYS 1 fence  2 positions of the stream of conversions  3 stream of credits
-- ARGV 1 number of the lease  2 id of the last entry decided  3 lines ('' for none)
-- Returns 1, or 0 where another holds the role by now.
if tonumber(redis.call('GET', KEYS[1]) or '0') ~= tonumber(ARGV[1]) then return 0 end
if ARGV[3] ~= '' then redis.call('XADD', KEYS[3], '*', 'credit_versions', ARGV[3]) end
redis.call('HSET', KEYS[2], 'worker', ARGV[2])
return 1
