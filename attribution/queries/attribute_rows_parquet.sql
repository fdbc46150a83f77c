-- The rows of a Parquet file; a column that the file lacks is empty, null is as good as empty.
SELECT
    _row_number AS row,
    ifNull(toString(visitor), '') AS visitor,
    ifNull(toString(program), '') AS program,
    ifNull(toString(affiliate), '') AS affiliate,
    ifNull(toString(order_id), '') AS order_id,
    ifNull(toString(click_id), '') AS click_id,
    ifNull(toString(kind), '') AS kind,
    ts,
    0 AS broken
FROM file({path:String}, 'Parquet', {structure:String})
