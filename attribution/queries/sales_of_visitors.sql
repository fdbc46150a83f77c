-- The sales that late clicks of some visitors may concern, each as it was reported last.
SELECT order_id, goal, toUnixTimestamp64Milli(ts), visitors, click_ids, customer_id, coupon, channel, conversion_id,
       length(visitors) > 1 AND JSONLength(claim, 'evidence', 'server') = 0
FROM
(
    SELECT *
    FROM conversion_versions
    WHERE program = {program:String}
    ORDER BY revision DESC
    LIMIT 1 BY order_id, goal
)
WHERE ts >= fromUnixTimestamp64Milli({since:Int64})
  AND (hasAny(visitors, {visitors:Array(String)})
       OR customer_id IN
       (
           SELECT customer_id FROM reports
           WHERE program = {program:String} AND customer_id != '' AND visitor IN {visitors:Array(String)}
       ))
ORDER BY ts, conversion_id
