-- Every sale of the file, with what is wrong with it (the numbers of attribution/file_input.py).
INSERT INTO file_sales
SELECT
    row,
    cityHash64(visitor, program) AS key,
    sipHash64(visitor, program) AS check_key,
    visitor != '' AS is_known,
    ms,
    order_id,
    multiIf(
        broken, 1,
        order_id = '', 4,
        (program != '') != {has_program:Bool}, 5,
        is_timeless, 7,
        unit = 0, 8,
        unit != {unit:UInt8}, 9,
        0
    ) AS problem,
    if(problem IN (8, 9), ifNull(toString(ts), ''), '') AS shown
FROM (SELECT *, $time FROM ($rows))
