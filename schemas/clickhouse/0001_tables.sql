-- The record at rest. Raw tables are only ever added to; `credits` and `conversions` are views of the latest version.
-- stream, epoch, stream_id say where in the log a row came from; received_at is the time of its append.

CREATE TABLE IF NOT EXISTS clicks
(
    click_id     String,
    ts           DateTime64(3, 'UTC'),
    program      LowCardinality(String),
    affiliate    LowCardinality(String),
    link         String,
    visitor      String,
    kind         LowCardinality(String),
    flags        Array(LowCardinality(String)),
    sub1         String,
    sub2         String,
    sub3         String,
    sub4         String,
    sub5         String,
    ref          String,
    url          String,
    referrer     String,
    country      LowCardinality(String),
    device       LowCardinality(String),
    os           LowCardinality(String),
    browser      LowCardinality(String),
    user_agent   String,
    ip           String,
    query        String,
    worker       UInt16,
    incarnation  UInt64,
    sequence     UInt64,
    received_at  DateTime64(3, 'UTC'),
    stream       LowCardinality(String),
    epoch        UInt32,
    stream_id    String,
    INDEX click_id_bloom click_id TYPE bloom_filter(0.01) GRANULARITY 1,
    PROJECTION by_time (SELECT program, ts, affiliate, link, kind, flags, country, device, os, browser, sub1 ORDER BY program, ts)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (program, visitor, ts, click_id)
SETTINGS fsync_after_insert = 1;

CREATE TABLE IF NOT EXISTS refusals
(
    refusal_id   String,
    ts           DateTime64(3, 'UTC'),
    program      LowCardinality(String),
    affiliate    LowCardinality(String),
    link         String,
    reason       LowCardinality(String),
    url          String,
    referrer     String,
    user_agent   String,
    ip           String,
    received_at  DateTime64(3, 'UTC'),
    stream       LowCardinality(String),
    epoch        UInt32,
    stream_id    String
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (program, ts)
SETTINGS fsync_after_insert = 1;

CREATE TABLE IF NOT EXISTS reports
(
    report_id     String,
    conversion_id String,
    received_at   DateTime64(3, 'UTC'),
    ts            DateTime64(3, 'UTC'),
    program       LowCardinality(String),
    order_id      String,
    goal          LowCardinality(String),
    kind          LowCardinality(String),
    outcome       LowCardinality(String),
    problem       String,
    amount        Nullable(Decimal(18, 4)),
    currency      LowCardinality(String),
    visitor       String,
    click_id      String,
    customer_id   String,
    coupon        Array(String),
    channel       String,
    items         String,
    reversal_id   String,
    reason        String,
    source        LowCardinality(String),
    trust         LowCardinality(String),
    params        String,
    stream        LowCardinality(String),
    epoch         UInt32,
    stream_id     String
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (program, order_id, goal, received_at)
SETTINGS fsync_after_insert = 1;

CREATE TABLE IF NOT EXISTS conversion_versions
(
    conversion_id     String,
    revision          UInt32,
    ts                DateTime64(3, 'UTC'),
    received_at       DateTime64(3, 'UTC'),
    first_received_at DateTime64(3, 'UTC'),
    program           LowCardinality(String),
    order_id          String,
    goal              LowCardinality(String),
    amount            Nullable(Decimal(18, 4)),
    currency          LowCardinality(String),
    click_id          String,
    visitor           String,
    visitors          Array(String),
    click_ids         Array(String),
    customer_id       String,
    coupon            Array(String),
    channel           String,
    items             String,
    source            LowCardinality(String),
    status            LowCardinality(String),
    claim             String,
    stream            LowCardinality(String),
    epoch             UInt32,
    stream_id         String
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (program, order_id, goal, received_at)
SETTINGS fsync_after_insert = 1;

CREATE TABLE IF NOT EXISTS credit_versions
(
    credit_id      String,
    program        LowCardinality(String),
    order_id       String,
    goal           LowCardinality(String),
    conversion_id  String,
    version        UInt32,
    replaces       UInt32,
    decision_seq   UInt64,
    affiliate      LowCardinality(String),
    click_id       String,
    method         LowCardinality(String),
    ts             DateTime64(3, 'UTC'),
    decided_at     DateTime64(3, 'UTC'),
    terms_hash     LowCardinality(String),
    engine_version LowCardinality(String),
    disputed       Bool,
    candidates     Array(Tuple(click_id String, affiliate String, ts DateTime64(3, 'UTC'), kind String, reason String)),
    received_at    DateTime64(3, 'UTC'),
    stream         LowCardinality(String),
    epoch          UInt32,
    stream_id      String
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (program, order_id, goal, version)
SETTINGS fsync_after_insert = 1;

CREATE TABLE IF NOT EXISTS entity_versions
(
    version_id  String,
    at          DateTime64(3, 'UTC'),
    type        LowCardinality(String),
    id          String,
    data        String,
    position    UInt64,
    received_at DateTime64(3, 'UTC'),
    stream      LowCardinality(String),
    epoch       UInt32,
    stream_id   String
)
ENGINE = MergeTree
ORDER BY (type, id, position)
SETTINGS fsync_after_insert = 1;

CREATE TABLE IF NOT EXISTS dead_letters
(
    letter_id   String,
    received_at DateTime64(3, 'UTC'),
    table       LowCardinality(String),
    reason      String,
    row         String,
    stream      LowCardinality(String),
    epoch       UInt32,
    stream_id   String
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (received_at)
SETTINGS fsync_after_insert = 1;

CREATE OR REPLACE VIEW conversions AS
SELECT conversion_id, ts, first_received_at AS received_at, program, order_id, goal, amount, currency, click_id, visitor,
       customer_id, coupon, channel, items, source, status, revision
FROM conversion_versions
ORDER BY revision DESC
LIMIT 1 BY program, order_id, goal;

CREATE OR REPLACE VIEW credits AS
SELECT program, order_id, goal, affiliate, click_id, method, ts, decided_at, terms_hash, engine_version, candidates,
       conversion_id, version, replaces, decision_seq, disputed
FROM credit_versions
ORDER BY version DESC
LIMIT 1 BY program, order_id, goal;

CREATE OR REPLACE VIEW entities AS
SELECT type, id, data, at, position
FROM entity_versions
ORDER BY position DESC
LIMIT 1 BY type, id;

CREATE OR REPLACE VIEW programs AS
SELECT id AS program, JSONExtractString(data, 'merchant') AS merchant, JSONExtractString(data, 'name') AS name,
       JSONExtractString(data, 'status') AS status, JSONExtractString(data, 'currency') AS currency,
       JSONExtractString(data, 'landing_url') AS landing_url,
       JSONExtract(data, 'allowed_hosts', 'Array(String)') AS allowed_hosts,
       JSONExtractString(data, 'click_param') AS click_param, at AS changed_at
FROM entities WHERE type = 'program';

CREATE OR REPLACE VIEW affiliates AS
SELECT id AS affiliate, JSONExtractString(data, 'name') AS name, JSONExtractString(data, 'status') AS status,
       at AS changed_at
FROM entities WHERE type = 'affiliate';

CREATE OR REPLACE VIEW links AS
SELECT id AS link, JSONExtractString(data, 'program') AS program, JSONExtractString(data, 'affiliate') AS affiliate,
       JSONExtractString(data, 'url') AS url, JSONExtractString(data, 'status') AS status,
       JSONExtractString(data, 'kind') AS kind, at AS changed_at
FROM entities WHERE type = 'link';

CREATE OR REPLACE VIEW coupons AS
SELECT JSONExtractString(data, 'code') AS code, JSONExtractString(data, 'program') AS program,
       JSONExtractString(JSONExtractArrayRaw(data, 'owners')[-1], 'affiliate') AS affiliate, at AS changed_at
FROM entities WHERE type = 'coupon';

CREATE OR REPLACE VIEW terms AS
SELECT program, version, fromUnixTimestamp64Milli(JSONExtractInt(term, 'from'), 'UTC') AS valid_from,
       JSONExtractString(term, 'rule') AS rule, JSONExtractString(term, 'window') AS window,
       JSONExtractString(term, 'view_window') AS view_window,
       JSONExtractString(term, 'late_click_guard') AS late_click_guard, JSONExtractString(term, 'coupon') AS coupon,
       JSONExtractString(term, 'repeat') AS repeat, JSONExtractString(term, 'customer_window') AS customer_window,
       JSONExtractString(term, 'identity') AS identity, JSONExtractString(term, 'self_referral') AS self_referral,
       JSONExtract(term, 'channels', 'Array(String)') AS channels,
       JSONExtractString(term, 'duplicate_within') AS duplicate_within,
       JSONExtractString(term, 'merge_within') AS merge_within
FROM
(
    SELECT id AS program, JSONExtractArrayRaw(data, 'terms') AS all_terms
    FROM entities WHERE type = 'program'
)
ARRAY JOIN all_terms AS term, arrayEnumerate(all_terms) AS version;
