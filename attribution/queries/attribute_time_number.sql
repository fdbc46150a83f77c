-- The time of a row whose `ts` is an integer: seconds below 10^11 (the year 5138), milliseconds below 10^14.
-- A zero is a time only where the file counts seconds.
    isNull(ts) AS is_timeless,
    ifNull(toInt64(ts), 0) AS number,
    multiIf(
        number = 0, if({unit:UInt8} = 1, 1, 0),
        number BETWEEN -99999999999 AND 99999999999, 1,
        number BETWEEN -99999999999999 AND 99999999999999, 2,
        0
    ) AS unit,
    if(unit = 1, number * 1000 + {last_ms:UInt16}, number) AS ms
