-- How many rows each row group of a Parquet file has.
SELECT arrayMap(group -> group.num_rows, row_groups) FROM file({path:String}, 'ParquetMetadata')
