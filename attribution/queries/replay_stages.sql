-- Programs in which some order has several goals.
SELECT program FROM credit_versions GROUP BY program HAVING min(goal) != max(goal)
