-- English feeds of a tenant that share a host.
-- weight: 10
-- params: tenant.id
SELECT a.id, b.id AS mirror_id, a.host
FROM feeds AS a
JOIN feeds AS b ON b.host = a.host AND b.id > a.id
WHERE a.tenant_id = $1 AND b.tenant_id = $1
  AND lower(a.language) = 'en' AND lower(b.language) = 'en';
