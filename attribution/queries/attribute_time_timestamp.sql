-- The time of a row whose `ts` is a timestamp of Parquet.
    isNull(ts) AS is_timeless,
    toUInt8(4) AS unit,
    ifNull(toUnixTimestamp64Milli(ts), 0) AS ms
