-- Change the claims of orders, and append what was reported of them: all of it, or nothing where a claim is not as it
-- was read.
-- KEYS 1 stream of conversions  2 ready marker  3… the claims, each once
-- ARGV 1-4 lines for the fields `reports`, `decide`, `confirmed` and `conversion_versions` of the stream's entry ('' for
--   none), then for each claim two: as it was read ('' for none), and as it shall be
-- Returns 1 when done; -1 when claims are not known yet; else for each claim 1 where it is as it was read, and where it
--   is not what it is ('' for nothing).
-- Lines come joined, and claims are read and set at once: each text that Lua takes in costs 1 µs, each call from here 2
-- (docs/decisions/0009).
if redis.call('EXISTS', KEYS[2]) == 0 then return -1 end
local found = redis.call('MGET', unpack(KEYS, 3))
local changes, answers, refused = {}, {}, false
for i = 1, #found do
  local claim, before, after = found[i] or '', ARGV[2 * i + 3], ARGV[2 * i + 4]
  if claim == before then
    answers[i] = 1
  else
    answers[i], refused = claim, true
  end
  if after ~= before then
    changes[#changes + 1] = KEYS[i + 2]
    changes[#changes + 1] = after
  end
end
if refused then return answers end
local entry = {}
for i, name in ipairs({'reports', 'decide', 'confirmed', 'conversion_versions'}) do
  if ARGV[i] ~= '' then
    entry[#entry + 1] = name
    entry[#entry + 1] = ARGV[i]
  end
end
if #entry > 0 then redis.call('XADD', KEYS[1], '*', unpack(entry)) end
if #changes > 0 then redis.call('MSET', unpack(changes)) end
return 1
