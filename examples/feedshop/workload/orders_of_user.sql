-- A customer's order history.
-- weight: 40
-- params: user.id
SELECT o.id, o.status, o.total_cents, o.placed_at, o."Order Notes"
FROM orders AS o
WHERE o.user_id = $1 AND o.deleted_at IS NULL
ORDER BY o.placed_at DESC
LIMIT 50;
