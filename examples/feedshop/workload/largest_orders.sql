-- The operator's start page.
-- weight: 10
SELECT o.id, o.tenant_id, o.total_cents, o.placed_at
FROM orders AS o
WHERE o.deleted_at IS NULL
ORDER BY o.total_cents DESC
LIMIT 20;
