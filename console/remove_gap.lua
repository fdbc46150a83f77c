-- Remove the gap marker of a shard, if it is still the one that the rebuild has put there: whoever found or made a gap
-- since has replaced it.
-- KEYS 1 gap marker
-- ARGV 1 the marker as the rebuild has put it
-- Returns 1, or 0 where it is another by now.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
