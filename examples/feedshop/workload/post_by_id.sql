-- One article.
-- weight: 100
-- params: post.id
SELECT p.id, p.title, p.body, p.attrs, p.view_count, u.handle
FROM posts AS p
JOIN users AS u ON u.id = p.author_id
WHERE p.id = $1 AND p.deleted_at IS NULL;
