-- Append one batch of clicks of one shard, and the touches they leave: all in one step, one fsync.
-- KEYS 1 stream of clicks  2 gap marker  3 stream of conversions  4… touch state of each click with a touch
-- ARGV 1 '1': touch state may grow; else it is refused and the gap marked   2 ttl of the gap marker, ms
--      3 '1': a replay from the spool; touches already there are skipped, late ones told to the worker
--      4 most touches kept for a visitor   5 lines of clicks without a touch   6 refusal lines
--      7 lines of the clicks with a touch, in the order of KEYS 4…   (lines are joined by newlines)
--      8 number of groups, then for each: ttl ms, duplicate_within ms, number of clicks; then the touches
-- Lines stay one text unless a duplicate has to be marked: a Lua string for each cost 2 µs a click.
-- A touch ends in fixed width: … kind(1) duplicate key(8) ts(13) click id(32), one space between.
-- Touch state is touches joined by newlines, by time; a first line '#n' counts the n oldest that were dropped.
-- Returns the number of clicks that were flagged duplicate.
local grow, replay, most = ARGV[1] == '1', ARGV[3] == '1', tonumber(ARGV[4])
local groups = tonumber(ARGV[8])
local is_duplicate, is_late, duplicates, lates, refused = {}, {}, 0, 0, false

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

local click = 0
for group = 1, groups do
  local ttl, within, count = ARGV[6 + 3 * group], tonumber(ARGV[7 + 3 * group]), tonumber(ARGV[8 + 3 * group])
  for _ = 1, count do
    click = click + 1
    local key, touch = KEYS[3 + click], ARGV[8 + 3 * groups + click]
    local state = redis.call('GET', key)
    local known, before, after = false, state, ''
    if state then
      if replay then
        known = string.find(state, string.sub(touch, -32), 1, true)
        before, after = around(state, touch)
      end
      if not known and string.sub(before, -55, -48) == string.sub(touch, -55, -48) then
        local age = tonumber(time(touch)) - tonumber(time(before))
        is_duplicate[click] = age >= 0 and age < within or nil
      end
    end
    if is_duplicate[click] then
      duplicates = duplicates + 1
    elseif not known then
      if replay then is_late[click], lates = true, lates + 1 end
      if grow or state then
        if state and before ~= '' then touch = before .. '\n' .. touch end
        if after ~= '' then touch = touch .. '\n' .. after end
        if state then touch = bounded(touch) end
        redis.call('SET', key, touch, 'PX', ttl)
      else
        refused = true
      end
    end
  end
end

local late = {}
if replay then -- a view leaves no touch, but where the terms pay views it may earn
  for line in string.gmatch(ARGV[5], '[^\n]+') do
    if string.find(line, '"kind":"view"', 1, true) and string.sub(line, -3) == '[]}' then late[#late + 1] = line end
  end
end
local lines = ARGV[7]
if duplicates + lates > 0 then
  local marked, i = {}, 0
  for line in string.gmatch(lines, '[^\n]+') do
    i = i + 1
    if is_duplicate[i] then line = string.sub(line, 1, -3) .. '"duplicate"]}' end
    if is_late[i] then late[#late + 1] = line end
    marked[i] = line
  end
  lines = table.concat(marked, '\n')
end
if late[1] then redis.call('XADD', KEYS[3], '*', 'late', table.concat(late, '\n')) end
if refused then redis.call('SET', KEYS[2], 'state refused', 'PX', ARGV[2]) end
if ARGV[5] ~= '' then lines = lines == '' and ARGV[5] or ARGV[5] .. '\n' .. lines end

local fields = {}
if lines ~= '' then fields = {'clicks', lines} end
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
