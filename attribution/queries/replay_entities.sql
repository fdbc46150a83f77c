-- What the rule asks about programs, affiliates and coupons, every version in order, a line of JSON each.
SELECT formatRow('JSONCompactEachRow', toUnixTimestamp64Milli(received_at), type, id, data)
FROM entity_versions
WHERE type IN ('program', 'affiliate', 'membership', 'coupon')
  AND received_at <= fromUnixTimestamp64Milli({as_of:Int64})
ORDER BY position
