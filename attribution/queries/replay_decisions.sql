-- Decisions in order, each with what was reported of its sale, the bindings of its customer, and every touch that
-- could matter: a line of JSON each, in the columns that replay_evidence.py reads. Some stand here only as history:
-- earlier credits, about which the rule asks where a program's terms say `once` or `customer`, and the other goals of
-- an order.
WITH
slice AS
(
    SELECT program, order_id, goal, version, decision_seq, affiliate, click_id, method, ts, decided_at, terms_hash,
           engine_version, disputed, candidates,
           toUnixTimestamp64Milli(ts) >= {from:Int64} AND toUnixTimestamp64Milli(ts) < {to:Int64} AS is_in_period
    FROM credit_versions
    WHERE decision_seq > {after:UInt64} AND decision_seq <= {until:UInt64}
      AND decided_at <= fromUnixTimestamp64Milli({as_of:Int64})
      AND ({program:String} = '' OR program = {program:String})
      AND (is_in_period OR (program IN {history:Array(String)} AND toUnixTimestamp64Milli(ts) >= {history_from:Int64})
           OR (program IN {stages:Array(String)} AND (program, order_id) IN
              (
                  SELECT program, order_id FROM credit_versions
                  WHERE program IN {stages:Array(String)} AND decided_at <= fromUnixTimestamp64Milli({as_of:Int64})
                  GROUP BY program, order_id
                  HAVING min(goal) != max(goal)
              )))
),
newest AS
(
    SELECT program, order_id, goal, max(version) AS last_version, min(decision_seq) AS first_seq,
           toUnixTimestamp64Milli(argMax(ts, version)) AS last_ts
    FROM credit_versions
    WHERE decided_at <= fromUnixTimestamp64Milli({as_of:Int64})
      AND (program, order_id, goal) IN (SELECT program, order_id, goal FROM slice)
    GROUP BY program, order_id, goal
),
sale AS
(
    SELECT program, order_id, goal,
           arraySort(one -> one.1, groupArray((revision, toUnixTimestamp64Milli(received_at),
               toUnixTimestamp64Milli(conversion_versions.ts), visitors, click_ids, customer_id, coupon, channel, amount,
               currency, length(visitors) > 1 AND JSONLength(claim, 'evidence', 'server') = 0,
               status = 'confirmed'))) AS revisions,
           min(toUnixTimestamp64Milli(first_received_at)) AS first_received,
           groupUniqArrayArray(visitors) AS named_visitors,
           min(ts) AS oldest,
           max(ts) AS latest
    FROM conversion_versions
    WHERE received_at <= fromUnixTimestamp64Milli({as_of:Int64})
      AND (program, order_id, goal) IN (SELECT program, order_id, goal FROM slice)
    GROUP BY program, order_id, goal
),
reversal AS
(
    SELECT program, order_id, goal, min(toUnixTimestamp64Milli(received_at)) AS reversed_at
    FROM reports
    WHERE kind = 'reversal' AND amount IS NULL AND items = ''
      AND received_at <= fromUnixTimestamp64Milli({as_of:Int64})
      AND (program, order_id, goal) IN (SELECT program, order_id, goal FROM slice)
    GROUP BY program, order_id, goal
),
binding AS
(
    SELECT program, customer_id, visitor, ts, received_at
    FROM reports
    WHERE program IN {identity:Array(String)} AND customer_id != '' AND visitor != ''
      AND kind = 'sale' AND outcome NOT IN ('refused', 'conflict')
      AND received_at <= fromUnixTimestamp64Milli({as_of:Int64})
),
bound AS
(
    SELECT program, order_id, goal,
           groupUniqArray((customer_id, visitor, toUnixTimestamp64Milli(binding.ts),
               toUnixTimestamp64Milli(binding.received_at))) AS bindings
    FROM binding
    INNER JOIN
    (
        SELECT DISTINCT program, order_id, goal, customer_id
        FROM conversion_versions
        WHERE program IN {identity:Array(String)} AND customer_id != ''
          AND (program, order_id, goal) IN (SELECT program, order_id, goal FROM slice)
    ) AS customer USING (program, customer_id)
    GROUP BY program, order_id, goal
),
pair AS
(
    SELECT program, decision_seq, oldest, latest,
           arrayJoin(arrayDistinct(arrayConcat(named_visitors, arrayMap(one -> one.2, bindings)))) AS visitor
    FROM slice
    INNER JOIN sale USING (program, order_id, goal)
    LEFT JOIN bound USING (program, order_id, goal)
    WHERE is_in_period
),
touch AS
(
    SELECT program, decision_seq,
           groupArray((click_id, toUnixTimestamp64Milli(clicks.ts), affiliate, visitor, kind, flags,
               toUnixTimestamp64Milli(received_at))) AS touches
    FROM clicks
    INNER JOIN pair USING (program, visitor)
    WHERE received_at >= fromUnixTimestamp64Milli({clicks_from:Int64})
      AND received_at <= fromUnixTimestamp64Milli({as_of:Int64})
      AND clicks.ts <= fromUnixTimestamp64Milli({clicks_to:Int64})  -- spares the join what is newer than every sale
      AND clicks.ts <= latest
      AND toUnixTimestamp64Milli(clicks.ts) > toUnixTimestamp64Milli(oldest) - {reach:Int64}
    GROUP BY program, decision_seq
)
SELECT formatRow('JSONCompactEachRow',
    decision_seq, program, order_id, goal, version, affiliate, click_id, method, toUnixTimestamp64Milli(slice.ts),
    toUnixTimestamp64Milli(decided_at), terms_hash, engine_version, toUInt8(disputed),
    if({verify:Bool}, arrayMap(one -> (one.1, toUnixTimestamp64Milli(one.3), one.5), candidates), []),
    is_in_period AND last_ts >= {from:Int64} AND last_ts < {to:Int64}, version = last_version,
    revisions, first_received, reversed_at, bindings, touches, first_seq)
FROM slice
LEFT JOIN newest USING (program, order_id, goal)
LEFT JOIN sale USING (program, order_id, goal)
LEFT JOIN reversal USING (program, order_id, goal)
LEFT JOIN bound USING (program, order_id, goal)
LEFT JOIN touch USING (program, decision_seq)
ORDER BY decision_seq, program
