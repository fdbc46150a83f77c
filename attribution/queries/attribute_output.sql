-- The answer, in the order of the sales.
INSERT INTO FUNCTION file({path:String}, {format:String})
SELECT
    sale.order_id AS order_id,
    credit.affiliate AS affiliate,
    credit.click_id AS click_id,
    credit.ts_click AS ts_click$candidates
FROM (SELECT row, order_id FROM file_sales WHERE problem = 0) AS sale
LEFT JOIN file_credits AS credit ON sale.row = credit.row
ORDER BY sale.row
SETTINGS
    join_algorithm = 'full_sorting_merge',
    join_use_nulls = 1,
    format_csv_null_representation = '',
    output_format_json_quote_64bit_integers = 0,
    output_format_json_validate_utf8 = 1
