-- Forgetting a person: what is to be forgotten, in memory and only while it is being forgotten (the text of a mutation
-- stays on disk, so it must name nobody); and that somebody was forgotten, without a word about who.

CREATE TABLE IF NOT EXISTS forgetting
(
    kind LowCardinality(String),
    id   String
)
ENGINE = Memory;

CREATE TABLE IF NOT EXISTS forgets
(
    forget_id String,
    at        DateTime64(3, 'UTC'),
    person    LowCardinality(String),
    program   LowCardinality(String),
    clicks    UInt64,
    sales     UInt64
)
ENGINE = MergeTree
ORDER BY at
SETTINGS fsync_after_insert = 1;

-- The data that a change leaves behind are removed a second later, not when it suits; what was merged or changed is on
-- disk before what it was made of goes.

ALTER TABLE clicks MODIFY SETTING old_parts_lifetime = 1, cleanup_delay_period = 1, max_cleanup_delay_period = 1, cleanup_delay_period_random_add = 0, min_rows_to_fsync_after_merge = 1;
ALTER TABLE refusals MODIFY SETTING old_parts_lifetime = 1, cleanup_delay_period = 1, max_cleanup_delay_period = 1, cleanup_delay_period_random_add = 0, min_rows_to_fsync_after_merge = 1;
ALTER TABLE reports MODIFY SETTING old_parts_lifetime = 1, cleanup_delay_period = 1, max_cleanup_delay_period = 1, cleanup_delay_period_random_add = 0, min_rows_to_fsync_after_merge = 1;
ALTER TABLE conversion_versions MODIFY SETTING old_parts_lifetime = 1, cleanup_delay_period = 1, max_cleanup_delay_period = 1, cleanup_delay_period_random_add = 0, min_rows_to_fsync_after_merge = 1;
ALTER TABLE credit_versions MODIFY SETTING old_parts_lifetime = 1, cleanup_delay_period = 1, max_cleanup_delay_period = 1, cleanup_delay_period_random_add = 0, min_rows_to_fsync_after_merge = 1;
ALTER TABLE dead_letters MODIFY SETTING old_parts_lifetime = 1, cleanup_delay_period = 1, max_cleanup_delay_period = 1, cleanup_delay_period_random_add = 0, min_rows_to_fsync_after_merge = 1;
