-- A feed brings a new article.
-- weight: 15
-- params: feed.tenant_id, feed.id, user.id, post.title
INSERT INTO posts (tenant_id, feed_id, author_id, title, body, language, attrs)
VALUES ($1, $2, $3, $4, 'Fetched from the source.', 'en', '{"kind": "article"}')
RETURNING id;
