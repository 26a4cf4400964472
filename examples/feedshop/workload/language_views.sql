-- Views of one language.
-- weight: 1
-- params: language.code
SELECT count(*) AS posts, sum(p.view_count) AS views, avg(length(p.body)) AS body_length
FROM posts AS p
WHERE p.language = $1 AND p.deleted_at IS NULL;
