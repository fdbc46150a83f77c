-- The credits of all goals of some orders as they stand.
SELECT order_id, goal, version, affiliate, click_id, method, disputed, follows
FROM credit_versions
WHERE program = {program:String} AND order_id IN {orders:Array(String)}
ORDER BY version DESC
LIMIT 1 BY order_id, goal
