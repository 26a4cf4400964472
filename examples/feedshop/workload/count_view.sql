-- An article is read.
-- weight: 80
-- params: post.id
UPDATE posts SET view_count = view_count + 1
WHERE id = $1;
