-- Feeds that nobody has opened for longest; the crawler visits them less often.
-- weight: 15
SELECT f.id, f.tenant_id, f.title, f.last_seen_at
FROM feeds AS f
WHERE f.deleted_at IS NULL
ORDER BY f.last_seen_at
LIMIT 20;
