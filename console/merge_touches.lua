-- Merge touches out of the tables into touch state: what is there stays, what is there already is not doubled.
-- KEYS 1 and on: touch state of each visitor, all of one shard
-- ARGV 1 '1': touch state may grow; else only what is there is completed   2 most touches kept for a visitor
--      3… for each key three: ms that its newest touch is kept from now on; number of its clicks that are older than
--      those given; the newest ones as touches joined by newlines, by time, at most as many as are kept
-- Touches and state are as append_clicks.lua has them. Their order is the rule's: by time, then by click id. A first
-- line '#n' counts those that are not kept: the greater of what the tables and what the state have counted, as most of
-- it is the same. That is too few where a visitor made more clicks than are kept since the tables were read; any count
-- says that the state is not all, and the next run counts right. Running it again changes nothing else.
-- Returns the number of states that were changed and the number that were refused.
local grow, most = ARGV[1] == '1', tonumber(ARGV[2])
local jitter_ms = 1000 -- a state that lives this much shorter than it should is let alone
local changed, refused = 0, 0

local function place(touch) return string.sub(touch, -46) end -- ts(13) and click id(32)
local function is_before(one, other) return place(one) < place(other) end

local function text(dropped, touches, first)
  local lines = table.concat(touches, '\n', first)
  return dropped > 0 and '#' .. dropped .. '\n' .. lines or lines
end

-- The state with the touches given that it lacks.
local function merge(state, given, older)
  local dropped, touches, known, of_tables = 0, {}, {}, {}
  for line in string.gmatch(state, '[^\n]+') do
    if string.sub(line, 1, 1) == '#' then
      dropped = tonumber(string.sub(line, 2)) or 0
    else
      touches[#touches + 1] = line
      known[place(line)] = true
    end
  end
  local had, from = #touches, nil
  for line in string.gmatch(given, '[^\n]+') do
    from = from or place(line)
    of_tables[place(line)] = true
    if not known[place(line)] then touches[#touches + 1] = line end
  end
  table.sort(touches, is_before)
  local cut = #touches > most and #touches - most or 0
  local cut_of_state, cut_beside_older = 0, 0
  for i = 1, cut do
    if known[place(touches[i])] then cut_of_state = cut_of_state + 1 end
    if of_tables[place(touches[i])] or older == 0 or place(touches[i]) > from then
      cut_beside_older = cut_beside_older + 1 -- else it is one of the older clicks
    end
  end
  if cut == 0 and #touches == had and older <= dropped then return state end
  return text(math.max(dropped + cut_of_state, older + cut_beside_older), touches, cut + 1)
end

for i, key in ipairs(KEYS) do
  local ttl, older, given = tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1]), ARGV[3 * i + 2]
  local state = redis.call('GET', key)
  if state then
    local merged, left = merge(state, given, older), redis.call('PTTL', key)
    if merged ~= state or left + jitter_ms < ttl then
      redis.call('SET', key, merged, 'PX', math.max(left, ttl))
      changed = changed + 1
    end
  elseif grow then
    redis.call('SET', key, older > 0 and '#' .. older .. '\n' .. given or given, 'PX', ttl)
    changed = changed + 1
  else
    refused = refused + 1
  end
end
return {changed, refused}
