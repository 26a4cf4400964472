-- An editor takes an article down; it stays in the table.
-- weight: 8
-- params: post.id
UPDATE posts SET deleted_at = now()
WHERE id = $1 AND deleted_at IS NULL;
