-- Claim an order, or change its claim, and append what was reported: both or neither.
-- KEYS 1 claim  2 stream of conversions  3 ready marker
-- ARGV 1 the claim as it was read ('' for none)  2 the claim as it shall be  3… fields of the stream's entry
-- Returns {1} when done; {0, claim} when the claim has changed meanwhile; {-1} when claims are not known yet.
if redis.call('EXISTS', KEYS[3]) == 0 then return {-1} end
local claim = redis.call('GET', KEYS[1]) or ''
if claim ~= ARGV[1] then return {0, claim} end
if ARGV[2] ~= claim then redis.call('SET', KEYS[1], ARGV[2]) end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 3))
return {1}
