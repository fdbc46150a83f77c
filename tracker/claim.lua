-- Claim orders, or change their claims, and append what was reported of those that went well: one entry for all.
-- KEYS 1 stream of conversions  2 ready marker  3… a claim for each report
-- ARGV for each report six: the claim as it was read ('' for none), the claim as it shall be, and its lines for the
--   fields `reports`, `decide`, `confirmed` and `conversion_versions` of the stream's entry ('' for none)
-- Returns for each report 1 when done, else the claim as it is now; -1 alone when claims are not known yet.
-- One MGET and one MSET for all: what costs is a call from here into the server (docs/decisions/0009).
if redis.call('EXISTS', KEYS[2]) == 0 then return -1 end
local names = {'reports', 'decide', 'confirmed', 'conversion_versions'}
local lines, claims, changes, answers = {{}, {}, {}, {}}, {}, {}, {}
local found = redis.call('MGET', unpack(KEYS, 3))
for report = 1, #found do
  local key, at = KEYS[report + 2], (report - 1) * 6
  local claim = claims[key] or found[report] or ''
  if claim ~= ARGV[at + 1] then
    answers[report] = claim
  else
    claims[key] = ARGV[at + 2]
    if ARGV[at + 2] ~= claim then
      table.insert(changes, key)
      table.insert(changes, ARGV[at + 2])
    end
    for name = 1, 4 do
      local line = ARGV[at + 2 + name]
      if line ~= '' then table.insert(lines[name], line) end
    end
    answers[report] = 1
  end
end
local entry = {}
for name = 1, 4 do
  if #lines[name] > 0 then
    table.insert(entry, names[name])
    table.insert(entry, table.concat(lines[name], '\n'))
  end
end
if #entry > 0 then redis.call('XADD', KEYS[1], '*', unpack(entry)) end
if #changes > 0 then redis.call('MSET', unpack(changes)) end
return answers
