-- Of each program that has decisions two of its goals, alike where it has but one.
SELECT program, min(goal), max(goal) FROM credit_versions GROUP BY program
