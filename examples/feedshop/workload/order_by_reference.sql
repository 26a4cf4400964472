-- The payment provider calls back.
-- weight: 30
-- params: order.reference
SELECT o.id, o.tenant_id, o.status
FROM orders AS o
WHERE o."externalRef" = $1;
