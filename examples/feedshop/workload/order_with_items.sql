-- One order and what is in it.
-- weight: 50
-- params: order.id
SELECT o.id, o.status, o.total_cents, i.sku, i.quantity, i.price_cents
FROM orders AS o
JOIN items AS i ON i.order_id = o.id
WHERE o.id = $1 AND o.deleted_at IS NULL;
