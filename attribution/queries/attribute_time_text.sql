-- The time of a row whose `ts` is a text: digits as in attribute_time_number.sql (with `.0` behind them where a
-- spreadsheet or a data frame put it), or RFC 3339 with its offset.
    ifNull(toString(ts), '') AS written,
    written = '' AS is_timeless,
    toInt64OrNull(replaceRegexpOne(written, '[.]0+$', '')) AS digits,
    ifNull(digits, 0) AS number,
    if(
        isNull(digits) AND match(written, concat(
            '^(19|20|21|22)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt ]',
            '([01][0-9]|2[0-3])(:[0-5][0-9]){2}([.][0-9]+)?',
            '([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$'
        )),
        toUnixTimestamp64Milli(parseDateTime64BestEffortOrNull(upper(written), 3, 'UTC')),
        NULL
    ) AS moment,
    multiIf(
        isNotNull(moment), 3,
        isNull(digits), 0,
        number = 0, if({unit:UInt8} = 1, 1, 0),
        number BETWEEN -99999999999 AND 99999999999, 1,
        number BETWEEN -99999999999999 AND 99999999999999, 2,
        0
    ) AS unit,
    multiIf(
        unit = 3, ifNull(moment, 0) + if(position(written, '.') = 0, {last_ms:UInt16}, 0),
        unit = 1, number * 1000 + {last_ms:UInt16},
        number
    ) AS ms
