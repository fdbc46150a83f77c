-- Whether a quote is opened in a CSV file and never closed.
SELECT sum(countSubstrings(line, '"')) % 2 FROM file({path:String}, 'LineAsString', 'line String')
