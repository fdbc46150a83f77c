-- The answer, in the order of the sales. In CSV no cell begins as a formula does (console/spreadsheets.py).
INSERT INTO FUNCTION file({path:String}, {format:String})
WITH
    {format:String} = 'CSVWithNames' AS is_csv,
    '^[-=+@\\t\\r\\n＝＋－＠]' AS formula
SELECT
    if(is_csv AND match(sale.order_id, formula), concat('\'', sale.order_id), sale.order_id) AS order_id,
    if(is_csv AND match(credit.affiliate, formula), concat('\'', credit.affiliate), credit.affiliate) AS affiliate,
    if(is_csv AND match(credit.click_id, formula), concat('\'', credit.click_id), credit.click_id) AS click_id,
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
