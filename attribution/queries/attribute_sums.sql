SELECT
    (SELECT count() FROM file_sales WHERE problem = 0),
    (SELECT count() FROM file_sales WHERE problem = 0 AND NOT is_known),
    (SELECT countIf(isNotNull(affiliate)) FROM file_credits)
