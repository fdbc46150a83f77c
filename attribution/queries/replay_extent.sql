-- How many decisions there are on sales dated in a period, and the last position among them.
SELECT count(), max(decision_seq)
FROM credit_versions
WHERE decided_at <= fromUnixTimestamp64Milli({as_of:Int64})
  AND ({program:String} = '' OR program = {program:String})
  AND toUnixTimestamp64Milli(ts) >= {from:Int64} AND toUnixTimestamp64Milli(ts) < {to:Int64}
