-- The keys of the first lines of a JSONL file.
SELECT DISTINCT arrayJoin(JSONExtractKeys(line))
FROM
(
    SELECT if(_row_number = 0 AND startsWith(line, '\xEF\xBB\xBF'), substring(line, 4), line) AS line
    FROM file({path:String}, 'LineAsString', 'line String')
    LIMIT {lines:UInt32}
)
