-- The stages of one order: which goal a credit follows, and the key of the terms that says whether.

ALTER TABLE credit_versions ADD COLUMN IF NOT EXISTS follows LowCardinality(String) AFTER method;

CREATE OR REPLACE VIEW credits AS
SELECT program, order_id, goal, affiliate, click_id, method, ts, decided_at, terms_hash, engine_version, candidates,
       conversion_id, version, replaces, decision_seq, disputed, follows
FROM credit_versions
ORDER BY version DESC
LIMIT 1 BY program, order_id, goal;

CREATE OR REPLACE VIEW terms AS
SELECT program, version, fromUnixTimestamp64Milli(JSONExtractInt(term, 'from'), 'UTC') AS valid_from,
       JSONExtractString(term, 'rule') AS rule, JSONExtractString(term, 'window') AS window,
       JSONExtractString(term, 'view_window') AS view_window,
       JSONExtractString(term, 'late_click_guard') AS late_click_guard, JSONExtractString(term, 'coupon') AS coupon,
       JSONExtractString(term, 'repeat') AS repeat, JSONExtractString(term, 'customer_window') AS customer_window,
       JSONExtractString(term, 'identity') AS identity, JSONExtractString(term, 'self_referral') AS self_referral,
       JSONExtract(term, 'channels', 'Array(String)') AS channels,
       JSONExtractString(term, 'duplicate_within') AS duplicate_within,
       JSONExtractString(term, 'merge_within') AS merge_within,
       if(JSONExtractString(term, 'goals_judged') = '', 'first', JSONExtractString(term, 'goals_judged')) AS goals_judged
FROM
(
    SELECT id AS program, JSONExtractArrayRaw(data, 'terms') AS all_terms
    FROM entities WHERE type = 'program'
)
ARRAY JOIN all_terms AS term, arrayEnumerate(all_terms) AS version;
