-- What `attribute` keeps while it works, in an engine of its own that is thrown away afterwards.
-- The key of a sale or click is two hashes of (visitor, program): 128 bits together, compared always both.
CREATE TABLE file_sales
(
    row UInt64,
    key UInt64,
    check_key UInt64,
    is_known Bool,
    ts Int64,
    order_id String,
    problem UInt8,
    shown String
)
ENGINE = MergeTree ORDER BY row;

-- Only clicks of (visitor, program) that have a sale; `rank` is 1 for a click, 2 for a soft one, 3 for a view.
CREATE TABLE file_clicks
(
    bucket UInt8,
    key UInt64,
    check_key UInt64,
    rank UInt8,
    ts Int64,
    click_id String,
    affiliate String,
    row Int64,
    problem UInt8,
    shown String
)
ENGINE = MergeTree ORDER BY bucket;

-- Keys with so many sales that pairing each with each click would not end.
CREATE TABLE file_heavy (key UInt64) ENGINE = MergeTree ORDER BY key;

CREATE TABLE file_credits
(
    row UInt64,
    affiliate Nullable(String),
    click_id Nullable(String),
    ts_click Nullable(Int64),
    candidates Array(Tuple(click_id Nullable(String), affiliate String, ts Int64, kind String, reason String))
)
ENGINE = MergeTree ORDER BY row;

-- Parts are read once each: merging them would be work for nothing.
SYSTEM STOP MERGES file_sales;

SYSTEM STOP MERGES file_clicks;

SYSTEM STOP MERGES file_credits
