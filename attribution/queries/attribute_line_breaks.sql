-- The rows of a CSV file that run over several lines, and over how many more than one.
SELECT _row_number, countSubstrings(concat(*), '\n') AS breaks
FROM file({path:String}, 'CSV', {structure:String})
WHERE breaks > 0
