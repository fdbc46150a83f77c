-- Put a claim in the place of the one that was read, if it is still that one.
-- KEYS 1 claim
-- ARGV 1 the claim as it was read  2 the claim as it shall be
-- Returns 1, or 0 where it is another by now.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
