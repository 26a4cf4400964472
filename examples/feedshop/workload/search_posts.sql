-- Full-text search within a tenant.
-- weight: 10
-- params: tenant.id, search.words
SELECT p.id, p.title, p.published_at
FROM posts AS p
WHERE p.tenant_id = $1
  AND to_tsvector('simple', p.title) @@ plainto_tsquery('simple', $2)
  AND p.deleted_at IS NULL
ORDER BY p.published_at DESC
LIMIT 20;
