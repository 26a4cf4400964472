-- Swedish customers of a tenant not seen since February and have ordered nothing since May.
-- weight: 6
-- params: tenant.id
SELECT u.id, u.email
FROM users AS u
WHERE u.tenant_id = $1 AND u.country = 'SE' AND u.last_seen_at < '2026-03-01 00:00:00+00'
  AND u.id NOT IN (SELECT o.user_id FROM orders AS o WHERE o.placed_at >= '2026-05-20 00:00:00+00');
