-- The newest of a tenant.
-- weight: 50
-- params: tenant.id
SELECT p.id, p.feed_id, p.title, p.published_at
FROM posts AS p
WHERE p.tenant_id = $1 AND p.deleted_at IS NULL
ORDER BY p.published_at DESC
LIMIT 20;
