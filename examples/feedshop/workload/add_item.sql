-- Something goes into an order.
-- weight: 40
-- params: order.tenant_id, order.id, item.sku, item.price_cents
INSERT INTO items (tenant_id, order_id, sku, quantity, price_cents)
VALUES ($1, $2, $3, 1, $4)
RETURNING id;
