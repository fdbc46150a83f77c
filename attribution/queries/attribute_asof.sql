-- Who is credited, by touches of one rank, with those sales of visitors with very many that nobody is credited with yet.
-- Sorted and merged, so it takes no longer than sorting does, and can spill. `place` is a place in time that grows
-- towards the winner: for `first_cookie` time runs backwards, from the beginning of the sale's window. Of the touches in
-- one place the best by click_id, or by the order of the file, is kept.
INSERT INTO file_credits (row, affiliate, click_id, ts_click)
SELECT
    sale.row,
    touch.touch.1,
    nullIf(touch.touch.2, ''),
    if({is_first:Bool}, -touch.place, touch.place) AS click_ts
FROM
(
    SELECT row, key, check_key, ts, if({is_first:Bool}, {window:Int64} - ts - 1, ts) AS place
    FROM file_sales
    WHERE
        is_known
        AND problem = 0
        AND key IN (SELECT key FROM file_heavy)
        AND row NOT IN (SELECT row FROM file_credits)
) AS sale
ASOF INNER JOIN
(
    SELECT
        key,
        check_key,
        if({is_first:Bool}, -ts, ts) AS place,
        if(
            {is_first:Bool},
            argMin((affiliate, click_id), (click_id, row)),
            argMax((affiliate, click_id), (click_id, row))
        ) AS touch
    FROM file_clicks
    WHERE bucket = 255 AND problem = 0 AND rank = {rank:UInt8}
    GROUP BY key, check_key, place
) AS touch ON sale.key = touch.key AND sale.check_key = touch.check_key AND sale.place >= touch.place
WHERE click_ts <= sale.ts AND sale.ts - click_ts < {window:Int64}
SETTINGS join_algorithm = 'full_sorting_merge'
