-- Every sale of one bucket that has touches, with all of them in order and the reason of each.
INSERT INTO file_credits
SELECT
    sale_row,
    if(empty(eligible), NULL, winner.affiliate),
    if(empty(eligible), NULL, nullIf(winner.click_id, '')),
    if(empty(eligible), NULL, winner.ts),
    arrayMap(
        touch -> (
            nullIf(touch.click_id, ''),
            touch.affiliate,
            touch.ts,
            ['click', 'soft', 'view'][touch.rank],
            multiIf(
                touch.lost != '', touch.lost,
                touch.row = winner.row, 'WON',
                touch.rank != best, 'OUTRANKED',
                {is_first:Bool}, 'NOT_FIRST',
                'NOT_LAST'
            )
        ),
        touches
    )
FROM
(
    SELECT
        sale_row,
        touches,
        arrayFilter(touch -> touch.lost = '', touches) AS eligible,
        arrayMin(touch -> touch.rank, eligible) AS best,
        arrayFilter(touch -> touch.rank = best, eligible)[if({is_first:Bool}, 1, -1)] AS winner
    FROM
    (
        SELECT
            sale.row AS sale_row,
            arraySort(groupArray(
                (
                    click.ts,
                    click.click_id,
                    click.row,
                    click.rank,
                    click.affiliate,
                    multiIf(
                        click.ts > sale.ts, 'AFTER_SALE',
                        sale.ts - click.ts >= if(click.rank = 3, {view_window:Int64}, {window:Int64}), 'OUT_OF_WINDOW',
                        ''
                    )
                )::Tuple(ts Int64, click_id String, row Int64, rank UInt8, affiliate String, lost String)
            )) AS touches
        FROM (SELECT * FROM file_clicks WHERE bucket = {bucket:UInt8} AND problem = 0) AS click
        INNER JOIN
        (
            SELECT row, key, check_key, ts
            FROM file_sales
            WHERE
                is_known
                AND problem = 0
                AND if({bucket:UInt8} = 255, 1, key % {buckets:UInt8} = {bucket:UInt8})
                AND key IN (SELECT key FROM file_heavy) = ({bucket:UInt8} = 255)
        ) AS sale ON click.key = sale.key AND click.check_key = sale.check_key
        GROUP BY sale_row
    )
)
