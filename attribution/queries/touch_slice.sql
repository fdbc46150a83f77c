-- Clicks of a program that leave a touch, by visitor and in the order of the rule: the next ones behind a place.
-- `since` bounds their time, `received_since` the months that are looked at. Views and flagged clicks leave none.
SELECT visitor, toUnixTimestamp64Milli(ts), click_id, affiliate, link, kind, url
FROM clicks
WHERE program = {program:String}
  AND (
      visitor > {visitor:String}
      OR (visitor = {visitor:String} AND ts > fromUnixTimestamp64Milli({ts:Int64}))
      OR (visitor = {visitor:String} AND ts = fromUnixTimestamp64Milli({ts:Int64}) AND click_id > {click_id:String})
  )
  AND visitor != '' AND empty(flags) AND kind IN ('click', 'soft') AND length(click_id) = 32
  AND ts >= fromUnixTimestamp64Milli({since:Int64})
  AND received_at >= fromUnixTimestamp64Milli({received_since:Int64})
ORDER BY program, visitor, ts, click_id
LIMIT {rows:UInt32}
