-- Take a free lease, or prolong one's own.
-- KEYS 1 lease
-- ARGV 1 who asks  2 for how long, ms; 0 gives it back  3 '1': it may be taken if it is free
-- Returns 1 where the asker holds it now (or held it until now), else 0.
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end
if holder or ARGV[3] ~= '1' then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
