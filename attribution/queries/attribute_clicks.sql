-- The clicks that could earn a sale, and every row that can't be read. First what costs least: one hash, and whether
-- its lower half is that of a sale. (Half of it is enough to leave nearly all others out; joins compare all of it.)
INSERT INTO file_clicks
SELECT
    multiIf(key IN (SELECT key FROM file_heavy), 255, {buckets:UInt8} = 1, 0, key % {buckets:UInt8}) AS bucket,
    cityHash64(visitor, program) AS key,
    sipHash64(visitor, program) AS check_key,
    multiIf(kind = '' OR kind = 'click', 1, kind = 'soft', 2, kind = 'view', 3, 0) AS rank,
    ms,
    click_id,
    affiliate,
    toInt64(row),
    multiIf(
        broken, 1,
        visitor = '', 2,
        affiliate = '', 3,
        (program != '') != {has_program:Bool}, 5,
        rank = 0, 6,
        is_timeless, 7,
        unit = 0, 8,
        unit != {unit:UInt8}, 9,
        0
    ) AS problem,
    multiIf(problem IN (8, 9), ifNull(toString(ts), ''), problem = 6, kind, '') AS shown
FROM (SELECT *, $time FROM ($rows))
WHERE
    problem != 0
    OR NOT {is_filtered:Bool}
    OR toUInt32(key) IN (SELECT toUInt32(key) FROM file_sales WHERE is_known AND problem = 0 AND {is_filtered:Bool})
