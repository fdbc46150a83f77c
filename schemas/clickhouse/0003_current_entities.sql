-- Entities as they are now, without those that were removed (`entities` has them all); whose a coupon is at the moment.
-- An ownership without a beginning begins in 1970, one without an end ends in 2200: no file can name a later time.

CREATE OR REPLACE VIEW programs AS
SELECT id AS program, JSONExtractString(data, 'merchant') AS merchant, JSONExtractString(data, 'name') AS name,
       JSONExtractString(data, 'status') AS status, JSONExtractString(data, 'currency') AS currency,
       JSONExtractString(data, 'landing_url') AS landing_url,
       JSONExtract(data, 'allowed_hosts', 'Array(String)') AS allowed_hosts,
       JSONExtractString(data, 'click_param') AS click_param, at AS changed_at
FROM entities WHERE type = 'program' AND JSONExtractString(data, 'status') != 'removed';

CREATE OR REPLACE VIEW affiliates AS
SELECT id AS affiliate, JSONExtractString(data, 'name') AS name, JSONExtractString(data, 'status') AS status,
       at AS changed_at
FROM entities WHERE type = 'affiliate' AND JSONExtractString(data, 'status') != 'removed';

CREATE OR REPLACE VIEW links AS
SELECT id AS link, JSONExtractString(data, 'program') AS program, JSONExtractString(data, 'affiliate') AS affiliate,
       JSONExtractString(data, 'url') AS url, JSONExtractString(data, 'status') AS status,
       JSONExtractString(data, 'kind') AS kind, at AS changed_at
FROM entities WHERE type = 'link' AND JSONExtractString(data, 'status') != 'removed';

CREATE OR REPLACE VIEW coupons AS
SELECT code, program, if(status = 'active', owner, '') AS affiliate, status, valid_from, valid_to, changed_at
FROM
(
    SELECT code, program, changed_at, JSONExtractString(ownership, 'affiliate') AS owner,
           fromUnixTimestamp64Milli(JSONExtractInt(ownership, 'from'), 'UTC') AS valid_from,
           fromUnixTimestamp64Milli(ifNull(JSONExtract(ownership, 'to', 'Nullable(Int64)'), 7258118400000), 'UTC')
               AS valid_to,
           multiIf(valid_to <= now64(3), 'ended', valid_from > now64(3), 'planned', 'active') AS status
    FROM
    (
        SELECT JSONExtractString(data, 'code') AS code, JSONExtractString(data, 'program') AS program, at AS changed_at,
               JSONExtractArrayRaw(data, 'owners') AS owners,
               arrayFilter(o -> ifNull(JSONExtract(o, 'to', 'Nullable(Int64)'), 7258118400000)
                                > toUnixTimestamp64Milli(now64(3)), owners) AS not_ended,
               if(empty(not_ended), owners[-1], not_ended[1]) AS ownership
        FROM entities WHERE type = 'coupon'
    )
    WHERE ownership != ''
);
