-- A user's own feeds.
-- weight: 30
-- params: user.id
SELECT f.id, f.title, f.unread_count
FROM feeds AS f
WHERE f.owner_id = $1 AND f.deleted_at IS NULL;
