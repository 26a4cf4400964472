-- Finds feeds by their description.
-- weight: 10
-- params: tenant.id, feed_search.words
SELECT f.id, f.title, f.host
FROM feeds AS f
WHERE f.tenant_id = $1
  AND to_tsvector('english', f.description) @@ plainto_tsquery('english', $2)
  AND f.deleted_at IS NULL
LIMIT 20;
