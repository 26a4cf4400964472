-- How the new model's canary differs from the last one's.
-- weight: 20
-- params: tenant.id
SELECT n.label, o.label AS previous, count(*) AS posts
FROM classifications AS n
JOIN classifications AS o ON o.tenant_id = n.tenant_id AND o.content_key = n.content_key
WHERE n.tenant_id = $1 AND n.model_version = 5 AND o.model_version = 4
GROUP BY n.label, o.label;
