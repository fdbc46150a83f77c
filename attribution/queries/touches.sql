-- Every touch of some visitors in a program.
SELECT click_id, toUnixTimestamp64Milli(ts), affiliate, visitor, kind, flags, link
FROM clicks
WHERE program = {program:String} AND visitor IN {visitors:Array(String)}
