-- A tenant's customers by turnover and week.
-- weight: 6
-- params: tenant.id
SELECT o.user_id, date_trunc('week', o.placed_at) AS week, count(*) AS orders, sum(o.total_cents) AS total_cents
FROM orders AS o
WHERE o.tenant_id = $1 AND o.deleted_at IS NULL
GROUP BY o.user_id, week
ORDER BY total_cents DESC, o.user_id
LIMIT 100;
