-- The last position given out to a decision.
SELECT max(decision_seq) FROM credit_versions
