-- Note how far a reader has come in a stream, and trim what every reader has behind it. Only for the holder of the role.
-- KEYS 1 fence  2 positions  3 stream
-- ARGV 1 number of the lease  2 reader  3 id of the last entry finished with  4 nothing newer than this id is trimmed
--      5… all readers of the stream
-- Returns 1, or 0 where another holds the role by now.
if tonumber(redis.call('GET', KEYS[1]) or '0') ~= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])

local function parts(id)
  local ms, sequence = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(sequence)
end

local least_ms, least_sequence = parts(ARGV[4])
for i = 5, #ARGV do
  local ms, sequence = parts(redis.call('HGET', KEYS[2], ARGV[i]) or '0-0')
  if ms < least_ms or (ms == least_ms and sequence < least_sequence) then least_ms, least_sequence = ms, sequence end
end
redis.call('XTRIM', KEYS[3], 'MINID', string.format('%.0f-%.0f', least_ms, least_sequence + 1))
return 1
