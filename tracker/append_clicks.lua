-- Append one batch of clicks of one shard, and the touches they leave: all in one step, one fsync.
-- KEYS 1 stream of clicks  2 gap marker  3 stream of conversions  4… touch state, one for each click in ARGV 7…
-- ARGV 1 '1': touch state may grow; else it is refused and the gap marked   2 ttl of the gap marker, ms
--      3 '1': a replay from the spool; touches already there are skipped, late ones told to the worker
--      4 most touches kept for a visitor   5 other click lines   6 refusal lines   (both joined by newlines)
--      then for each click with a touch: line, touch, ttl ms, duplicate_within ms
-- A touch ends in fixed width: … kind(1) duplicate key(8) ts(13) click id(32), one space between.
-- Touch state is touches joined by newlines, by time; a first line '#n' counts the n oldest that were dropped.
-- Returns the number of clicks that were flagged duplicate.
local grow, replay, most = ARGV[1] == '1', ARGV[3] == '1', tonumber(ARGV[4])
local lines, late, duplicates, refused = {}, {}, 0, false
if ARGV[5] ~= '' then lines[1] = ARGV[5] end

local function time(touch) return string.sub(touch, -46, -34) end

-- The state up to a late touch, which ends in the touch before it, and what comes after.
local function around(state, touch)
  local before, after = {}, {}
  for line in string.gmatch(state, '[^\n]+') do
    local side = (after[1] or time(line) > time(touch)) and after or before
    side[#side + 1] = line
  end
  return table.concat(before, '\n'), table.concat(after, '\n')
end

local function bounded(state)
  if #state < (most + 1) * 60 then return state end -- no touch is shorter than 60: fewer bytes are fewer touches
  local dropped = tonumber(string.match(state, '^#(%d+)\n')) or 0
  if dropped > 0 then state = string.gsub(state, '^[^\n]*\n', '', 1) end
  local _, breaks = string.gsub(state, '\n', '')
  for _ = most, breaks do
    state = string.gsub(state, '^[^\n]*\n', '', 1)
    dropped = dropped + 1
  end
  return dropped > 0 and '#' .. dropped .. '\n' .. state or state
end

for i = 4, #KEYS do
  local a = 7 + (i - 4) * 4
  local line, touch = ARGV[a], ARGV[a + 1]
  local state = redis.call('GET', KEYS[i])
  local known = state and replay and string.find(state, string.sub(touch, -32), 1, true)
  local before, after = state or '', ''
  if state and replay then before, after = around(state, touch) end
  local duplicate = false
  if not known and string.sub(before, -55, -48) == string.sub(touch, -55, -48) then
    local age = tonumber(time(touch)) - tonumber(time(before))
    duplicate = age >= 0 and age < tonumber(ARGV[a + 3])
  end
  if duplicate then
    duplicates = duplicates + 1
    line = string.sub(line, 1, -3) .. '"duplicate"]}'
  elseif not known then
    if grow or state then
      if before ~= '' then touch = before .. '\n' .. touch end
      if after ~= '' then touch = touch .. '\n' .. after end
      redis.call('SET', KEYS[i], bounded(touch), 'PX', ARGV[a + 2])
    else
      refused = true
    end
    if replay then late[#late + 1] = line end
  end
  lines[#lines + 1] = line
end

if refused then redis.call('SET', KEYS[2], 'state refused', 'PX', ARGV[2]) end
if late[1] then redis.call('XADD', KEYS[3], '*', 'late', table.concat(late, '\n')) end
local fields = {}
if lines[1] then
  fields = {'clicks', table.concat(lines, '\n')}
end
if ARGV[6] ~= '' then
  fields[#fields + 1] = 'refusals'
  fields[#fields + 1] = ARGV[6]
end
if replay then
  fields[#fields + 1] = 'replay'
  fields[#fields + 1] = '1'
end
redis.call('XADD', KEYS[1], '*', unpack(fields))
return duplicates
