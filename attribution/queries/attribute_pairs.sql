-- Who is credited with the sales of one bucket: each sale with each of its clicks that is eligible, the best first.
INSERT INTO file_credits (row, affiliate, click_id, ts_click)
SELECT
    sale.row AS sale_row,
    click.affiliate,
    nullIf(click.click_id, ''),
    click.ts
FROM (SELECT * FROM file_clicks WHERE bucket = {bucket:UInt8} AND problem = 0) AS click
INNER JOIN
(
    SELECT row, key, check_key, ts
    FROM file_sales
    WHERE is_known AND problem = 0 AND key % {buckets:UInt8} = {bucket:UInt8} AND key NOT IN (SELECT key FROM file_heavy)
) AS sale ON click.key = sale.key AND click.check_key = sale.check_key
WHERE click.ts <= sale.ts AND sale.ts - click.ts < if(click.rank = 3, {view_window:Int64}, {window:Int64})
ORDER BY
    sale_row,
    click.rank,
    if({is_first:Bool}, -click.ts, click.ts) DESC,
    if({is_first:Bool}, '', click.click_id) DESC,
    if({is_first:Bool}, click.click_id, ''),
    if({is_first:Bool}, -click.row, click.row) DESC
LIMIT 1 BY sale_row
