-- Which posts ran in a campaign.
-- weight: 8
-- params: campaign.attrs
SELECT p.id, p.title, p.view_count
FROM posts AS p
WHERE p.attrs @> $1::jsonb AND p.deleted_at IS NULL;
