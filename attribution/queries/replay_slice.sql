-- The next decisions in order: how many, the last position among them, the earliest and the latest time that a report
-- gives one of their sales (ms).
WITH slice AS
(
    SELECT program, order_id, goal, decision_seq, ts
    FROM credit_versions
    WHERE decision_seq > {after:UInt64} AND decision_seq <= {until:UInt64}
      AND decided_at <= fromUnixTimestamp64Milli({as_of:Int64})
      AND ({program:String} = '' OR program = {program:String})
      AND ((toUnixTimestamp64Milli(ts) >= {from:Int64} AND toUnixTimestamp64Milli(ts) < {to:Int64})
           OR (program IN {history:Array(String)} AND toUnixTimestamp64Milli(ts) >= {history_from:Int64})
           OR (program IN {stages:Array(String)} AND (program, order_id) IN
              (
                  SELECT program, order_id FROM credit_versions
                  WHERE program IN {stages:Array(String)} AND decided_at <= fromUnixTimestamp64Milli({as_of:Int64})
                  GROUP BY program, order_id
                  HAVING min(goal) != max(goal)
              )))
    ORDER BY decision_seq
    LIMIT {rows:UInt64}
),
sale AS
(
    SELECT ts FROM conversion_versions
    WHERE (program, order_id, goal) IN (SELECT program, order_id, goal FROM slice)
)
SELECT count(), max(decision_seq),
       toUnixTimestamp64Milli(least(min(ts), (SELECT min(ts) FROM sale))),
       toUnixTimestamp64Milli(greatest(max(ts), (SELECT max(ts) FROM sale)))
FROM slice
