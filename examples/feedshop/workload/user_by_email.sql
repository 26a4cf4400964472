-- Sign-in.
-- weight: 25
-- params: user.email
SELECT u.id, u.tenant_id, u.handle
FROM users AS u
WHERE lower(u.email) = lower($1) AND u.deleted_at IS NULL;
