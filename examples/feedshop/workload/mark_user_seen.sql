-- A user is active.
-- weight: 60
-- params: user.id, session.token
UPDATE users SET last_seen_at = now(), session_token = $2
WHERE id = $1;
