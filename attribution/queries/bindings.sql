-- By which reports customers and visitors of a program are bound: customer, visitor, since when (ms).
SELECT customer_id, visitor, toUnixTimestamp64Milli(min(ts))
FROM reports
WHERE program = {program:String} AND customer_id IN {customers:Array(String)}
  AND kind = 'sale' AND outcome NOT IN ('refused', 'conflict') AND visitor != ''
GROUP BY customer_id, visitor
