-- Of one bucket the keys with more sales than are paired.
INSERT INTO file_heavy
SELECT key
FROM file_sales
WHERE is_known AND problem = 0 AND key % {buckets:UInt8} = {bucket:UInt8}
GROUP BY key
HAVING count() > {sales_max:UInt32}
