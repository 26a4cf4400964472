-- What was ordered on a day, all tenants together.
-- weight: 6
-- params: day.placed_on
SELECT count(*) AS orders, sum(o.total_cents) AS total_cents
FROM orders AS o
WHERE date(o.placed_at) = $1;
