-- The credit of one sale as it stands.
SELECT version, affiliate, click_id, method, disputed, follows
FROM credit_versions
WHERE program = {program:String} AND order_id = {order_id:String} AND goal = {goal:String}
ORDER BY version DESC
LIMIT 1
