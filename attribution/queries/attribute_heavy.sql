INSERT INTO file_heavy
SELECT key
FROM file_sales
WHERE is_known AND problem = 0
GROUP BY key
HAVING count() > {sales_max:UInt32}
