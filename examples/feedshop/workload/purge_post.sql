-- A legal request removes an article for good.
-- weight: 14
-- params: doomed.id
DELETE FROM posts WHERE id = $1;
