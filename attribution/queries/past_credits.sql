-- Credits in force of a program that concern some customers or some clicks, but for wholly reversed sales.
WITH sales AS
(
    SELECT order_id, goal
    FROM credit_versions
    WHERE program = {program:String} AND click_id IN {click_ids:Array(String)}
    UNION ALL
    SELECT order_id, goal
    FROM conversion_versions
    WHERE program = {program:String} AND customer_id IN {customers:Array(String)}
)
SELECT order_id, goal, affiliate, click_id, method, toUnixTimestamp64Milli(ts), customer_id
FROM
(
    SELECT order_id, goal, affiliate, click_id, method, ts
    FROM credit_versions
    WHERE program = {program:String} AND (order_id, goal) IN sales
    ORDER BY version DESC
    LIMIT 1 BY order_id, goal
) AS credit
INNER JOIN
(
    SELECT order_id, goal, customer_id
    FROM conversion_versions
    WHERE program = {program:String} AND (order_id, goal) IN sales
    ORDER BY revision DESC
    LIMIT 1 BY order_id, goal
) AS conversion USING (order_id, goal)
WHERE affiliate != ''
  AND ((customer_id != '' AND customer_id IN {customers:Array(String)}) OR (click_id != '' AND click_id IN {click_ids:Array(String)}))
  AND (order_id, goal) NOT IN
  (
      SELECT order_id, goal FROM reports
      WHERE program = {program:String} AND (order_id, goal) IN sales
        AND kind = 'reversal' AND amount IS NULL AND items = ''
  )
