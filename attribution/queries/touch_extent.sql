-- By program, how many clicks there are at most that leave a touch: those received since the longest window began.
SELECT program, count()
FROM clicks
WHERE empty(flags) AND kind IN ('click', 'soft') AND received_at >= fromUnixTimestamp64Milli({received_since:Int64})
GROUP BY program
ORDER BY program
