-- All goals of some orders, each as it was reported last.
SELECT order_id, goal, toUnixTimestamp64Milli(ts), visitors, click_ids, customer_id, coupon, channel, conversion_id,
       length(visitors) > 1 AND JSONLength(claim, 'evidence', 'server') = 0
FROM conversion_versions
WHERE program = {program:String} AND order_id IN {orders:Array(String)}
ORDER BY revision DESC
LIMIT 1 BY order_id, goal
