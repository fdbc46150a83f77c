-- Append versions of entities to their stream and put them into the projection, if nobody else has meanwhile.
-- KEYS 1 stream of entities  2 projection
-- ARGV 1 the mark as it was read ('' for none)  2 position after this  3 lines  4… pairs of projection field and record
-- Returns the stream id, or false where the mark has changed.
local mark = redis.call('HGET', KEYS[2], '@') or ''
if mark ~= ARGV[1] then return false end
local id = redis.call('XADD', KEYS[1], '*', 'entity_versions', ARGV[3])
for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[2], '@', ARGV[2] .. ' ' .. id)
return id
