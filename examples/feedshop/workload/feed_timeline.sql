-- The newest of a feed.
-- weight: 110
-- params: feed.id
SELECT p.id, p.title, p.published_at, p.view_count
FROM posts AS p
WHERE p.feed_id = $1 AND p.deleted_at IS NULL
ORDER BY p.published_at DESC
LIMIT 20;
