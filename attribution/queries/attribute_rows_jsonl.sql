-- The lines of a JSONL file, without blank ones; null is as good as empty. A byte order mark is no part of the first.
SELECT
    _row_number AS row,
    if(row = 0 AND startsWith(line, '\xEF\xBB\xBF'), substring(line, 4), line) AS json,
    JSONExtract(json, {structure:String}) AS fields,
    fields.visitor AS visitor,
    fields.program AS program,
    fields.affiliate AS affiliate,
    fields.order_id AS order_id,
    fields.click_id AS click_id,
    fields.kind AS kind,
    fields.ts AS ts,
    NOT startsWith(trimLeft(json), '{') OR (fields.ts = '' AND NOT isValidJSON(json)) AS broken
FROM file({path:String}, 'LineAsString', 'line String')
WHERE match(json, '[^ \\t\\r]')
