-- The columns of a Parquet or CSV file, and their types.
DESCRIBE TABLE file({path:String}, {format:String})
SETTINGS input_format_max_rows_to_read_for_schema_inference = 1
