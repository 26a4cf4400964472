-- The model has read an article.
-- weight: 30
-- params: post.tenant_id, post.id
INSERT INTO classifications (tenant_id, post_id, model_version, content_key, label, score)
VALUES ($1, $2, 3, $2, 'news', 0.5)
RETURNING id;
