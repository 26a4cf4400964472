-- Who is signed in; on every request.
-- weight: 100
-- params: user.id
SELECT u.id, u.tenant_id, u.handle, u.country, u.profile
FROM users AS u
WHERE u.id = $1 AND u.deleted_at IS NULL;
