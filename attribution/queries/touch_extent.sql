-- How many clicks of a program leave a touch: what touch_slice gives from its beginning to its end.
SELECT count()
FROM clicks
WHERE program = {program:String} AND visitor != '' AND empty(flags) AND kind != 'view' AND length(click_id) = 32
  AND ts >= fromUnixTimestamp64Milli({since:Int64})
  AND received_at >= fromUnixTimestamp64Milli({received_since:Int64})
