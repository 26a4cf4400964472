-- Feeds that nobody has opened for longest.
-- weight: 120
-- params: tenant.id
SELECT f.id, f.title, f.last_seen_at
FROM feeds AS f
WHERE f.tenant_id = $1 AND f.deleted_at IS NULL
ORDER BY f.last_seen_at
LIMIT 20;
