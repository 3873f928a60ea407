-- reads s.t
select x::object(a number, b varchar not null) from s.t;
-- reads s.t
select x::array(number), y::map(varchar, int), z::vector(float, 256) from s.t;
-- reads s.t
select * from s.t match_recognize (partition by a order by b measures first(b) as x one row per match after match skip to next row pattern (^ {- a -} b{2,3} c*? $) define b as c>1);
-- reads s.t s.u
select * from s.t asof join s.u match_condition(t.ts >= u.ts) on t.k = u.k;
-- reads s.t
select * from s.t pivot(sum(x) for y in ('a','b') default on null (0)) as p;
-- reads s.t
select * from s.t pivot(sum(x) for y in (any));
-- reads s.t
select * from s.t unpivot include nulls (v for k in (a as 'x', b));
-- reads s.t
select a, sum(b) from s.t group by all;
-- reads s.t
select a, sum(b) from s.t group by grouping sets ((a),(b),());
-- reads s.t
select a, sum(b) from s.t group by rollup(a,b);
-- reads s.t
select a, sum(b) from s.t group by cube (a, b) having grouping(a)=0;
-- reads s.t
select * exclude (a, b) from s.t;
-- reads s.t
select * rename a as b from s.t;
-- reads s.t
select * ilike '%id%' from s.t;
-- reads s.t
select * replace (a+1 as a) from s.t;
-- reads s.t
select t.* ilike '%x%' exclude y rename (a as b) from s.t t;
-- reads s.t
select filter(arr, x -> x > 1), transform(arr, (x int) -> x + 1), reduce(arr, 0, (acc, x) -> acc + x) from s.t;
-- reads s.t
select ai_complete('model', prompt('Hi {0}', x)) from s.t;
-- reads s.t
select snowflake.cortex.complete('m', [{'role':'user','content': a}], {'temperature':0}) from s.t;
-- reads s.t
select ai_classify(text, ['a','b']):labels[0]::string from s.t;
-- reads s.t
select v:a.b[0]."C d"::string, v['a']['b'], get_path(v,'a.b'), v:"x y".z::number(10,2) from s.t;
-- reads s.t
select try_cast(a as number(10,2)), try_to_date(b), a::timestamp_ntz(9), b::time(3) from s.t;
-- reads s.t
select $$it's $$ || 'x', 'a\'b', 'it''s' from s.t;
-- reads s.t
select * from s.t tablesample system (10) seed (3);
-- reads s.t
select * from s.t sample row (10 rows);
-- reads s.t
select employee, level, sys_connect_by_path(title,' -> ') p from s.t start with title='x' connect by manager = prior id order by id;
-- reads s.t
select listagg(distinct a, ',') within group (order by b desc) from s.t;
-- reads s.t
select percentile_cont(0.5) within group (order by a) over (partition by b) from s.t;
-- reads s.t
select sum(a) over (partition by b order by c range between interval '7 days' preceding and current row) from s.t;
-- reads s.t
select first_value(a ignore nulls) over (partition by b order by c rows between unbounded preceding and current row), lag(a,1,0) ignore nulls over (order by b) from s.t;
-- reads s.t
select * from s.t qualify row_number() over (partition by a order by b) = 1;
-- reads s.t
select count_if(a>1), max_by(a,b), min_by(a,b,3), array_agg(distinct a) within group (order by b), object_agg(a,b), mode(a), approx_count_distinct(a), hll(a) from s.t;
-- reads s.t
select array_agg(a) filter (where b>1) from s.t;
-- reads s.t
select decode(a,1,'x','y'), iff(a>1,2,3), nvl2(a,b,c), zeroifnull(a), nullifzero(b), div0null(a,b) from s.t;
-- reads s.t
select dateadd(month,-1,current_date), datediff('day',a,b), date_trunc('week',a), a + interval '1 day, 2 hours', last_day(a,'month'), dayname(a), time_slice(a,5,'MINUTE','START') from s.t;
-- reads s.t s.u
select * from s.t where (a,b) in (select x,y from s.u) and c not in (1,2) and d ilike any ('%a%','b') and e rlike 'x.*' and f regexp 'y' and g like all ('a','b') escape '^';
-- reads s.t s.u
select * from s.t where a is distinct from b and contains(c,'x') and array_contains(1::variant, d) and not exists (select 1 from s.u where u.id=t.id);
-- reads s.t
select equal_null(a,b), a collate 'en-ci', collate(a,'en') from s.t;
-- reads s.t
select f.value:name::string, f.index, f.key from s.t t, lateral flatten(input => t.v:items, outer => true, recursive => true, mode => 'ARRAY', path => 'a.b') f;
-- reads s.t
select * from s.t, table(flatten(input => t.v)) f, lateral split_to_table(t.s, ',') x;
-- reads s.t s.u s.w
select * from s.t left join s.u using (id, b) right outer join lateral (select max(x) m from s.w where w.id = t.id) l on true;
-- reads s.t
select 1 union all by name select * from s.t;
-- reads s.t s.u
(select a from s.t limit 10) union all (select a from s.u order by a limit 5 offset 2);
-- reads s.t
select a from s.t order by all desc nulls first limit null;
-- reads s.t
select a from s.t for update;
-- reads s.t
select all a from s.t;
-- reads s.t
select {'a': 1, 'b': {'c': [1,2]}}, [1, 'x', null], {*}, {t.*} from s.t t;
-- reads s.t
select {* exclude a}, object_construct(*), object_construct_keep_null('a',1), hash(*), count(distinct *) from s.t;
-- reads s.t
select * from (values (1,'a'),(2,'b')) as v (id, name) join s.t on t.id=v.id;
-- reads
select column1 from values (1),(2) as x;
-- reads
select metadata$filename, metadata$file_row_number, $1:a::string, t.$2 from @s.st/path/(file_format => 's.ff', pattern => '.*[.]csv') t;
-- reads
select * from @"S"."my stage"/a/b (file_format => s."ff");
-- reads
select * from @db.s.st;
-- reads
select relative_path, build_scoped_file_url(@s.st, relative_path) from directory(@s.st);
-- reads s.t
select u.* from s.t, table(s.udtf(t.a, t.b)) u;
-- reads
select * from table(information_schema.task_history(scheduled_time_range_start => dateadd('hour',-1,current_timestamp()), result_limit => 10, task_name => 'x'));
-- reads
select * from table(result_scan('01b')) ;
-- reads s.sv
select * from semantic_view(s.sv dimensions c.name, o.date metrics o.total where o.date > '2020-01-01' );
-- reads s.sv
select * from semantic_view(s.sv facts o.x as y dimensions c.*);
-- reads s.t s.u
select * from s.t at(offset => -60*5) as x join s.u before(statement => '8e5d0ca9') b on x.id=b.id;
-- reads s.t
select * from s.t changes(information => append_only) at(timestamp => '2020-01-01'::timestamp_tz) end(timestamp => '2020-01-02'::timestamp_tz);
-- reads s.t
select * from s.t changes(information => default) before(statement => 'x');
-- reads s.t
select current_timestamp, current_date(), sysdate(), localtimestamp, current_user, current_role() from s.t;
-- reads
select seq4(), uniform(1,10,random()), randstr(5,random()), zipf(1,10,random()) from table(generator(rowcount => 10, timelimit => 1)) v;
-- reads s.t
select s.seq.nextval, s.seq.currval from s.t;
-- reads s.t
select st_distance(st_makepoint(a,b), to_geography('POINT(1 2)')), h3_latlng_to_cell(a,b,8), geo:coordinates from s.t;
-- reads s.t
select vector_cosine_similarity(a, [1,2,3]::vector(float,3)), vector_l2_distance(a,b) from s.t;
-- reads s.t
select a, b, ratio_to_report(a) over (), width_bucket(a,0,1,10), conditional_true_event(a>1) over (order by b) from s.t;
-- reads s.t
select date '2020-01-01', timestamp '2020-01-01 00:00:00', time '10:00', interval '1 year', interval '1-2' year to month, x'ab' from s.t;
-- reads s.t
select 1_000, 1e10, .5, 1., 'a' 'b' from s.t;
-- reads s."Order Details"
select a."select", "From" from s."Order Details" as "x y" where "x y"."select" = 1;
-- reads s."TÄBLE"
select a as "ä", b as ü from s.täble;
-- reads s.select_x s.t$1
select a from s.select_x join s.t$1 on true;
-- reads s.t
select /*+ hint */ a -- c
 , b // d
from s.t /* x */;
-- reads s.t
select system$typeof(a), system$stream_has_data('s.st') from s.t;
-- reads s.t
select parse_json('{"a":1}'):a, try_parse_json(x):b::int, to_variant(1), as_integer(v), is_null_value(v:a) from s.t;
-- reads s.t
select xmlget(x,'a'):"$"::string, x:"@id" from s.t;
-- reads s.t
select regexp_substr(a,'x',1,1,'e',1), regexp_replace(a,'x','y'), split_part(a,'-',-1), strtok_to_array(a), insert(a,1,2,'x'), left(a,2), position('x' in a), position('x',a,2), trim(a,'x'), charindex('a',b) from s.t;
-- reads s.t
select extract(year from a), extract(epoch_second from a), date_part(dow,a), year(a), convert_timezone('UTC','x',a), to_char(a,'YYYY'), a at time zone 'x' from s.t;
-- reads s.x
with recursive t (n) as (select 1 union all select n + 1 from t where n < 5), u as (select * from t) select * from u join s.x on true;
-- reads s.x
with a as (select * from s.x), b as materialized (select * from a) select * from b;
-- reads s.z
with a (x, y) as (select 1, 2) select * from a, s.z;
-- reads s.x s.y
with a as (select * from s.x where id in (with b as (select id from s.y) select id from b)) select * from a where exists (with a as (select 1) select * from a);
-- reads s.t
select * from (select * from s.t) as x (a, b);
-- reads s.t
select * from lateral (select 1) x, s.t;
-- reads s.t
select a[0], a[1:2], a:b[c], array_slice(a,0,1), array_construct(1,2), arrays_overlap(a,b), [1,2] || [3], [** a, 1] from s.t;
-- reads s.t
select udf(a), s.udf(a, b => 1), db.s.udf(), "S"."udf"(1) from s.t;
-- reads s.iceberg.t2
select * from s.iceberg.t2;
-- reads s.t
select * from s.t limit 10 offset 5;
-- reads s.t
select a from s.t group by 1, 2 having count(*) > 1 order by 1, count(*) desc nulls last;
-- reads s.t
select try_cast(a as variant)::string, a::varchar(16777216) collate 'utf8', a::binary, a::geography, a::uuid, a::decfloat, a::file from s.t;
-- reads s.t s.u s.v s.w2
select a from s.t, (select b from s.u) u, lateral (select c from s.v where v.b = u.b) w where exists (select 1 from s.w2 where w2.a = t.a);
-- reads s.t s.u
select a from s.t where grouping_id(a) = 1 or a in (1) or (select count(*) from s.u) > 1;
-- reads s.t
select any_value(a), bool_or(b), booland_agg(c), corr(a,b), median(a), skew(a), kurtosis(a), regr_slope(a,b), array_union_agg(a), bitmap_bucket_number(a) from s.t;
-- reads s.t
select * from s.t where a = any (array_construct(1));
-- reads s.t s.u
select * from s.t where a > all (select b from s.u);
-- reads s.t s.u
select iff(a, (select max(x) from s.u), 1) from s.t;
-- reads db.information_schema.columns information_schema.tables snowflake.account_usage.query_history
select * from snowflake.account_usage.query_history, information_schema.tables, db.information_schema.columns;
-- reads s.t s.u
select * from s.t, s.u where t.id = u.id (+);
-- reads "s"."t""u"
select 1 as "a""b", 'x' as "c.d" from "s"."t""u";
-- reads s.t
select ai_agg(a, 'x'), ai_filter(prompt('a {0}', b)), ai_embed('m', a), ai_similarity(a,b), ai_extract(text => a, responseformat => ['x']) from s.t;
-- reads s.t
select to_file('@s.st/a'), fl_get_size(f) from s.t;
-- reads
select data_metric_scan from table(data_metric_scan(ref_entity_name => 's.t', metric_name => 'x'));
-- reads
select * from table(snowflake.core.data_metric_scan(ref_entity_name => 's.t'));
-- reads s.t
select array_sort(a, true, false), array_min(a), map_keys(m), object_keys(o), map_cat(a,b) from s.t;
-- reads s.t
select zeroifnull(try_to_number(a,'999',10,2)), to_decimal(a,'9','8'), getbit(a,1) from s.t;
-- reads s.t
select timestampdiff(day,a,b), timediff(s,a,b), add_months(a,1), months_between(a,b), next_day(a,'mo'), previous_day(a,'mo') from s.t;
-- reads s.t
select date_from_parts(1,2,3), timestamp_ntz_from_parts(1,2,3,4,5,6), time_from_parts(1,2,3,4), to_timestamp_ltz(a,3), monthname(a) from s.t;
-- reads s.t
select encrypt(a,'x'), sha2(a,256), md5_hex(a), base64_encode(a), hex_decode_string(a), compress(a,'snappy') from s.t;
-- reads s.t
select a.b.c.d from s.t a;
-- reads db.s.t
select s.t.a, db.s.t.b from db.s.t;
-- reads s.t s.u s.v
select * from s.t t inner directed join s.u u on t.a = u.a left outer directed join s.v v on t.a = v.a;
-- reads s.t s.u s.v s.w s.x
select a from s.t union distinct select a from s.u intersect select a from s.v except select a from s.w minus select a from s.x;
-- reads s.t s.u s.w
select * from s.t natural join s.u cross join s.w
