-- A payment arrives.
-- weight: 40
-- params: order.id
UPDATE orders SET status = 'paid', updated_at = now()
WHERE id = $1;
