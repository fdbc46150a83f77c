-- The first rows that can't be read.
SELECT row, problem, shown
FROM {table:Identifier}
WHERE problem != 0
ORDER BY problem = 9 DESC, row
LIMIT {limit:UInt32}
