-- Claim orders, or change what is claimed, and append what was reported of them together with the touches of those who
-- bought. A claim that is not as the caller thinks is left alone, and so is what was reported of it; nothing at all is
-- done where a touch is later than a sale it would be read with.
-- KEYS 1 stream of conversions  2 ready marker  3 gap marker  4… the claims, each once, then states of touches, each once
-- ARGV 1 how many claims there are
--   2-5 lines for the fields `reports`, `conversion_versions`, `decide` and `confirmed` of the stream's entry ('' for none)
--   6 whose the states are, a line each  7 how late, in 13 digits each, the last touch of each state may be
--   8-10 of which claim each line of 2, of 3 and 4, and of 5 is, as numbers; '' where the first is of the first, …
--   11… each claim as it shall be, then each as the caller thinks it is; the latter may be left out where there is none
-- Returns 1 when all is done; -1 when claims are not known yet; -2 when states are too large to be written at once, and
--   there are several claims: nothing is done; else for each claim 1 where it is as the caller thought, and where it is
--   not what it is ('' for none); behind these, where a touch is too late, for each state when its last touch was or 0.
-- Lines come joined, and everything is read and set at once: each text that Lua takes in costs 1 µs, each call from here
-- 2 (docs/decisions/0009).
local found = redis.call('MGET', unpack(KEYS, 2))
if not found[1] then return -1 end
local claims = tonumber(ARGV[1])
local changes, answers, refused, late = {}, {}, false, false
for i = 1, claims do
  local claim, before, after = found[i + 2] or '', ARGV[claims + i + 10] or '', ARGV[i + 10]
  if claim ~= before then
    answers[i], refused = claim, true
  else
    answers[i] = 1
    if after ~= before then
      changes[#changes + 1] = KEYS[i + 3]
      changes[#changes + 1] = after
    end
  end
end
local states, newest, size = {}, {}, 0
for i = 1, #KEYS - claims - 3 do
  states[i] = found[claims + i + 2] or ''
  size = size + #states[i]
  local ts = string.sub(states[i], -46, -34) -- its place is fixed from the end (append_clicks.lua)
  newest[i] = 0
  if #ts == 13 and not string.find(ts, '%D') and ts > string.sub(ARGV[7], 13 * i - 12, 13 * i) then
    newest[i], late = tonumber(ts), true
  end
end
if size > 524288 and claims > 1 then return -2 end -- as much as the edge sends of lines (report_batch.py)
if late then
  for i = 1, #newest do answers[claims + i] = newest[i] end
  return answers
end
-- Lines without those of claims that are left alone.
local function left(lines, numbers)
  if not refused then return lines end
  local number, kept, i = string.gmatch(numbers, '%d+'), {}, 0
  for line in string.gmatch(lines, '[^\n]+') do
    i = i + 1
    if answers[tonumber(number() or i)] == 1 then kept[#kept + 1] = line end
  end
  return table.concat(kept, '\n')
end
local entry = {}
local function add(name, value)
  if value ~= '' then
    entry[#entry + 1] = name
    entry[#entry + 1] = value
  end
end
add('reports', left(ARGV[2], ARGV[8]))
if #entry == 0 then return answers end
add('conversion_versions', left(ARGV[3], ARGV[9]))
add('decide', left(ARGV[4], ARGV[9]))
add('confirmed', left(ARGV[5], ARGV[10]))
if #states > 0 then
  add('visitors', ARGV[6])
  add('touches', table.concat(states, '\0'))
end
if found[2] then add('gap', '1') end
redis.call('XADD', KEYS[1], '*', unpack(entry))
if #changes > 0 then redis.call('MSET', unpack(changes)) end
return refused and answers or 1
