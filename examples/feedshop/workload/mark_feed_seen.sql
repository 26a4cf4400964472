-- A reader opens a feed.
-- weight: 400
-- params: feed.id
UPDATE feeds SET last_seen_at = now(), unread_count = 0
WHERE id = $1;
