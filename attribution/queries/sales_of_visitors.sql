-- The sales that a visitor's late click may concern, each as it was reported last.
SELECT order_id, goal, toUnixTimestamp64Milli(ts), visitors, click_ids, customer_id, coupon, channel, conversion_id, revision, status
FROM
(
    SELECT *
    FROM conversion_versions
    WHERE program = {program:String}
    ORDER BY revision DESC
    LIMIT 1 BY order_id, goal
)
WHERE has(visitors, {visitor:String}) AND ts >= fromUnixTimestamp64Milli({since:Int64})
