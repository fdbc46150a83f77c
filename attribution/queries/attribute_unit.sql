-- In what unit the file counts time, and whether it names programs: as its first row whose time can be read.
SELECT unit, program != ''
FROM (SELECT row, program, $time FROM ($rows))
WHERE unit != 0
LIMIT 1
SETTINGS max_threads = 1, max_parsing_threads = 1
