-- The rows of a CSV file by position, without the head and empty ones; `surplus` is what stands behind the last column.
SELECT
    _row_number AS row,
    visitor,
    program,
    affiliate,
    order_id,
    click_id,
    kind,
    ts,
    surplus != '' OR NOT isValidUTF8(concat(visitor, program, affiliate, order_id, click_id)) AS broken
FROM file({path:String}, 'CSV', {structure:String})
WHERE row > 0 AND concat(visitor, affiliate, order_id, ts, surplus) != ''
