-- A customer buys.
-- weight: 25
-- params: user.tenant_id, user.id, order.total_cents
INSERT INTO orders (tenant_id, user_id, total_cents)
VALUES ($1, $2, $3)
RETURNING id;
