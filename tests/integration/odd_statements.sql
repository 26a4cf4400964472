-- Normalised statements, one a line, that are hard to find parameters for.
select * from app.account where id = $1
select * from app.account where email = $1 and active = $2 and m = $3
select * from app.account where tags @> $1
select * from app.account where $1 = any(tags)
select * from app.account where doc @> $1
select * from app.account where doc ->> $1 = $2
select * from app.account where (doc -> $1 ->> $2)::int = $3
select * from app.account where doc #>> $1 = $2
select * from app.account where doc ? $1
select * from app.account where secret = $1
select * from app.account where balance between $1 and $2 order by made desc limit $3 offset $4
select * from app.account where born >= date $1 and born < date $2 + interval $3
select * from app.account where made > now() - interval $1
select * from app.account where made > now() - $1::interval and t > $2
select * from app.account where made >= $1 and made < $2 and score > $3
select * from app.account where ip = $1
select * from app.account where ip << $1
select * from app.account where r @> $1
select * from app.account where r && $1
select * from app.account where email like '%' || $1 || '%'
select * from app.account where id = any($1)
select * from app.account where id = any($1::uuid[]) and tenant_id in ($2, $3, $4)
select * from app.account where tenant_id in ($1 /*, ... */)
select * from app.account where tenant_id <> all($1)
select * from app.account where (made, id) < ($1, $2) order by made desc, id desc limit $3
select * from app.account where extract(year from made) = $1 and date_trunc($2, made) = $3
select * from app.account where extract($1 from made) = $2
select * from app.account where lower(email) = lower($1)
select * from app.account where length(email) > $1
select * from app.account where made::date = $1
select * from app.account where tenant_id = $1 + $2
select * from app.account where tenant_id % $1 = $2
select tenant_id, count(*) from app.account group by tenant_id having count(*) > $1
select case when balance > $1 then $2 else $3 end, sum(case when active then $4 else $5 end) from app.account group by 1
select sum(case when active then 1 else $1 end), round(avg(balance), $2), split_part(max(email), $3, $4) from app.account
select to_char(made, $1), substring(email from $2 for $3), left(email, $4), position($5 in email) from app.account limit $6
select a.*, l.n from app.account a left join lateral (select * from log where log.account = a.id and log.level >= $1 order by at desc limit $2) l on true where a.tenant_id = $3
with x as (select id, tenant_id t from app.account where active = $1) select * from x join log on log.account = x.id where x.t = $2 and log.level = $3
with recursive r as (select id, n from log where n = $1 union all select l.id, l.n from log l join r on l.n = r.n + $2 where r.n < $3) select * from r
select * from recent where lvl = $1 and at > $2
select * from "Weird Name" where "Some Col" = $1 and "select" = $2
select * from never where a = $1 and b = $2 and c > $3
select * from part where id = $1 and d = $2 and v > $3
insert into log (account, at, level, body) select id, $1, $2, $3 from app.account where tenant_id = $4
update app.account set balance = balance - $1, doc = jsonb_set(doc, $2, $3) where id = $4 returning balance
update log set n = $1 from app.account a where a.id = log.account and a.tenant_id = $2 and log.level = $3
delete from log where at < $1 and level = $2
delete from log using app.account a where a.id = log.account and a.email = $1
with d as (delete from log where id in (select id from log where level = $1 limit $2 for update skip locked) returning *) select * from d
select * from unnest($1::int[], $2::text[]) as u(a, b) join log on log.id = u.a
select count(*) filter (where level = $1) from log
select row_number() over (partition by level order by at), lag(n, $1) over (order by id), ntile($2) over (order by id) from log limit $3
select percentile_cont($1) within group (order by n) from log
select * from log where at between $1::timestamp - interval $2 and $1::timestamp
select * from log where body similar to $1 or body ~ $2 or body ~* $3
select * from log where n is distinct from $1 and not (level = $2) and body is not null
select * from log where level = $1 union all select * from log where level = $2 order by 1 fetch first $3 rows only
select array[$1, $2]::int[], jsonb_build_object($3::text, n) from log where n = $4
select * from log where id > $1 order by id limit $2
select * from log where at at time zone $1 > $2
select string_agg(body, $1 order by id) from log where id < $2
select * from log where n = (select max(n) - $1 from log where level = $2)
select * from log where n = $1::text::bigint and at = to_timestamp($2)
select * from log where ($1::text is null or body = $1) and ($2::int is null or level = $2)
select * from log where ($1 is null or n = $1)
select * from log where body = $1 collate "C"
select json_agg(x) from (select n, body from log where level = $1 order by n limit $2) x
select * from log cross join lateral generate_series($1, level) g where n = $2
insert into app.account (id, email, tenant_id, tags, m, active, doc, secret, balance, born, made, t, score, ip, r) values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15)
update app.account set balance = balance + $1, made = now() where id = $2
update app.account set (m, score) = ($1, $2) where email = $3
select * from app.account where email like $1 or email ilike $2
select * from app.account where tags && $1::text[] and tags @> $2
select * from app.account where coalesce(email, $1) = $2
