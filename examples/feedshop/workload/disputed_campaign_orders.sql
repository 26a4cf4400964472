-- The dearest orders of the campaign that are under dispute.
-- weight: 10
-- params: campaign.started_at
SELECT o.id, o.tenant_id, o.user_id, o.total_cents
FROM orders AS o
WHERE o.placed_at >= $1 AND o.status = 'disputed' AND o.deleted_at IS NULL
ORDER BY o.total_cents DESC
LIMIT 20;
