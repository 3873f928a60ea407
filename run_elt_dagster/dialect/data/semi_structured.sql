-- Macros of DuckDB that do what Snowflake does. `@name` is the full name of one.
-- A macro ends with a semicolon at the end of a line.
-- A failure that Snowflake would give is error('<number>|<text>'); what is not known here is error('unsupported|<what>').
--
-- A VARIANT, an ARRAY and an OBJECT are JSON: compact, the keys of objects sorted. What JSON does not tell apart is told by how it is
-- written: a DOUBLE has an exponent (1.500000000000000e+00), other numbers have none and no zeros at their end. An element of an
-- array that is missing (Snowflake shows `undefined`) is ` null`, with a space; the null of JSON has none.
-- DuckDB's functions of JSON rewrite numbers, so what they would change is `packed` into strings that begin with \u0001 first.
-- `list_transform([x], lambda v: ...)[1]` names a value, so it is worked out once.

-- Whether DuckDB's functions of JSON leave it as it is.
CREATE OR REPLACE MACRO @plain(x) AS NOT regexp_matches(x, '[0-9]e[-+]|[0-9.]{17}|0\.000000|[\[,] null');
CREATE OR REPLACE MACRO @tokens(x) AS regexp_extract_all(x, '"(?:[^"\\]|\\.)*"|-?[0-9][-+0-9.eE]*| null|[^"0-9 -]+');
CREATE OR REPLACE MACRO @packed(x) AS array_to_string(list_transform(@tokens(x),
    lambda t: CASE WHEN regexp_matches(t, '^(-?[0-9]| null)') THEN '"\u0001' || t || '"' ELSE t END), '')::JSON;
CREATE OR REPLACE MACRO @unpacked(x) AS regexp_replace(x, '"\\u0001([^"]*)"', '\1', 'g')::JSON;
CREATE OR REPLACE MACRO @float_json(x) AS list_transform([x], lambda d: CASE
    WHEN d IS NULL THEN NULL
    WHEN isnan(d) OR isinf(d) THEN error('unsupported|put NaN or infinity into a VARIANT')::JSON
    WHEN CAST(format('{:.15e}', d) AS DOUBLE) = d THEN format('{:.15e}', d)::JSON
    ELSE format('{:.16e}', d)::JSON END)[1];
CREATE OR REPLACE MACRO @number_token(t) AS CASE
    WHEN contains(t, 'e') OR contains(t, 'E') OR length(replace(replace(t, '-', ''), '.', '')) > 38
        THEN @float_json(CAST(t AS DOUBLE))::VARCHAR
    WHEN ltrim(t, '-0.') = '' THEN '0'
    WHEN contains(t, '.') THEN rtrim(rtrim(t, '0'), '.')
    ELSE t END;
CREATE OR REPLACE MACRO @number_json(x) AS list_transform([CAST(x AS VARCHAR)],
    lambda t: (CASE WHEN contains(t, '.') THEN rtrim(rtrim(t, '0'), '.') ELSE t END)::JSON)[1];
CREATE OR REPLACE MACRO @text_json(x) AS CASE
    WHEN contains(x, chr(1)) THEN error('unsupported|put the character 1 into a VARIANT')::JSON
    ELSE to_json(CAST(x AS VARCHAR)) END;
CREATE OR REPLACE MACRO @to_variant(x) AS x;

-- PARSE_JSON: '' is what is no JSON, NULL is nothing.
CREATE OR REPLACE MACRO @json_compact(x) AS array_to_string(list_transform(
    regexp_extract_all(x, '"(?:[^"\\]|\\.)*"|-?[0-9][-+0-9.eE]*|[^"0-9\s-]+'),
    lambda t: CASE WHEN regexp_matches(t, '^-?[0-9]') THEN @number_token(t) WHEN left(t, 1) = '"' THEN t
        ELSE replace(t, 'NULL', 'null') END), '');
CREATE OR REPLACE MACRO @colons(o) AS length(o) - length(replace(o, ':', ''));
CREATE OR REPLACE MACRO @json_sorted(x) AS CASE
    WHEN NOT contains(x, '{') THEN CASE WHEN @plain(x) THEN json(x) ELSE @unpacked(json(@packed(x))) END
    WHEN @plain(x) THEN x::JSON::VARIANT::JSON
    ELSE @unpacked(@packed(x)::VARIANT::JSON) END;
CREATE OR REPLACE MACRO @json_outside(x) AS regexp_replace(x, '"(?:[^"\\]|\\.)*"', '""', 'g');
-- The JSON of a text before it is sorted: '' is what is no JSON, NULL is nothing. `o` is the text without what its strings hold.
CREATE OR REPLACE MACRO @json_unsorted(t, o) AS CASE
    WHEN t IS NULL OR trim(t, chr(32) || chr(9) || chr(10) || chr(13)) = '' THEN NULL
    WHEN contains(t, chr(1)) OR contains(t, '\u0001') THEN error('unsupported|put the character 1 into a VARIANT')
    WHEN regexp_matches(o, ',\s*[,\]\}]|\[\s*,') THEN CASE
        WHEN regexp_matches(o, ',\s*\}') THEN error('unsupported|parse an object with a comma before its end')
        WHEN contains(t, '"') THEN error('unsupported|parse an array with missing elements and strings')
        ELSE list_transform([replace(replace(replace(replace(@json_compact(t), ',,', ', null,'), ',,', ', null,'), ',]', ', null]'),
            '[,', '[ null,')], lambda u: CASE WHEN json_valid(u) THEN u ELSE '' END)[1] END
    WHEN NOT json_valid(t) THEN CASE WHEN contains(o, '''')
        THEN error('unsupported|parse JSON with single quotes')
        WHEN regexp_matches(o, '[{,]\s*[A-Za-z_$][\w$]*\s*:') THEN error('unsupported|parse JSON whose keys have no quotes')
        WHEN contains(o, 'NULL') THEN list_transform([@json_compact(t)], lambda u: CASE WHEN json_valid(u) THEN u
            ELSE error('unsupported|parse JSON with these words') END)[1]
        WHEN regexp_matches(o, '(?i)null|true|false|undefined') THEN error('unsupported|parse JSON with these words')
        ELSE '' END
    WHEN regexp_matches(o, '[NI]|inf|nan') THEN error('unsupported|parse NaN or infinity')
    WHEN regexp_matches(o, '[0-9][eE]|[0-9.]{17}|0\.000000|\.[0-9]*0(?:[^0-9]|$)|-0|[\[,] null') THEN @json_compact(t)
    ELSE t END;
-- The keys that an object has twice are lost while it is sorted, so fewer colons are left. Each of these macros is named once: DuckDB
-- binds a macro as often as it stands in a query.
CREATE OR REPLACE MACRO @json_checked(x, failure) AS list_transform(list_transform(list_transform(
    list_transform([CAST(x AS VARCHAR)], lambda t: struct_pack(t := t, o := @json_outside(t))),
    lambda p: struct_pack(o := p.o, j := @json_unsorted(p.t, p.o))),
    lambda p: struct_pack(o := p.o, j := CASE WHEN p.j = '' THEN '' ELSE @json_sorted(p.j)::VARCHAR END)),
    lambda p: CASE WHEN p.j IS NULL THEN NULL
        WHEN p.j = '' THEN failure
        WHEN contains(p.j, '{') AND @colons(@json_outside(p.j)) <> @colons(p.o) THEN failure
        ELSE p.j::JSON END)[1];
CREATE OR REPLACE MACRO @parse_json(x) AS @json_checked(x, error('100069|Error parsing JSON')::JSON);
-- What is wrong with the text Snowflake says in words of its own.
CREATE OR REPLACE MACRO @check_json(x) AS list_extract([NULL::VARCHAR], length(CAST(@json_checked(x,
    error('unsupported|say what is wrong with JSON')::JSON) AS VARCHAR)));
CREATE OR REPLACE MACRO @try_parse_json(x) AS @json_checked(x, NULL::JSON);

-- Text. A VARIANT as text has no quotes.
CREATE OR REPLACE MACRO @json_text(x) AS list_transform([CAST(x AS VARCHAR)], lambda v: CASE
    WHEN @plain(v) THEN v
    ELSE array_to_string(list_transform(@tokens(v), lambda t: CASE
        WHEN t = ' null' THEN 'undefined'
        WHEN regexp_matches(t, '^-?[0-9]\.[0-9]{16}e') THEN format('{:.15e}', CAST(t AS DOUBLE))
        ELSE t END), '') END)[1];
CREATE OR REPLACE MACRO @variant_kind(x) AS list_transform([CAST(x AS VARCHAR)], lambda v: CASE left(v, 1)
    WHEN '"' THEN 'VARCHAR' WHEN '{' THEN 'OBJECT' WHEN '[' THEN 'ARRAY' WHEN 't' THEN 'BOOLEAN' WHEN 'f' THEN 'BOOLEAN'
    WHEN 'n' THEN 'NULL_VALUE' ELSE CASE WHEN v IS NULL THEN NULL WHEN contains(v, 'e') THEN 'DOUBLE'
        WHEN contains(v, '.') THEN 'DECIMAL' ELSE 'INTEGER' END END)[1];
-- A date or a time in a VARIANT is kept as text, so text in its form may be one.
CREATE OR REPLACE MACRO @text_kind(x) AS list_transform([CAST(x AS VARCHAR)], lambda v: CASE
    WHEN regexp_full_match(v, '"(\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d\.\d{3}( [-+]\d{4})?)?|\d\d:\d\d:\d\d)"')
    THEN error('unsupported|tell a date or a time in a VARIANT from text')::VARCHAR ELSE @variant_kind(v) END)[1];
CREATE OR REPLACE MACRO @is_number(x) AS left(CAST(x AS VARCHAR), 1) IN ('-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9');
CREATE OR REPLACE MACRO @variant_text(x) AS list_transform([CAST(x AS VARCHAR)], lambda v: CASE
    WHEN left(v, 1) = '"' THEN json_extract_string(v, '$')
    WHEN v = 'null' THEN NULL
    WHEN left(v, 1) IN ('{', '[') THEN @json_text(v)
    WHEN @is_number(v) AND contains(v, 'e') THEN @float_text(CAST(v AS DOUBLE))
    ELSE v END)[1];
CREATE OR REPLACE MACRO @variant_number_text(x) AS list_transform([CAST(x AS VARCHAR)], lambda v: CASE
    WHEN v IS NULL OR v = 'null' THEN NULL
    WHEN left(v, 1) = '"' THEN json_extract_string(v, '$')
    WHEN v = 'true' THEN '1' WHEN v = 'false' THEN '0'
    WHEN NOT @is_number(v) THEN error('100071|Failed to cast variant value to a number')
    WHEN contains(v, 'e') AND abs(CAST(v AS DOUBLE)) < 1e20 AND abs(CAST(v AS DOUBLE)) > 1e-3
        THEN rtrim(rtrim(CAST(CAST(CAST(v AS DOUBLE) AS DECIMAL(38,16)) AS VARCHAR), '0'), '.')
    ELSE v END)[1];
CREATE OR REPLACE MACRO @variant_boolean(x) AS list_transform([CAST(x AS VARCHAR)], lambda v: CASE
    WHEN v IS NULL OR v = 'null' THEN NULL
    WHEN v = 'true' THEN TRUE WHEN v = 'false' THEN FALSE
    WHEN left(v, 1) = '"' THEN @text_boolean(json_extract_string(v, '$'))
    WHEN @is_number(v) THEN CAST(v AS DOUBLE) <> 0
    ELSE error('100071|Failed to cast variant value to BOOLEAN')::BOOLEAN END)[1];
-- A number counts seconds. Text of more digits would count smaller parts, so it is not known here.
CREATE OR REPLACE MACRO @variant_instant_text(x) AS list_transform([CAST(x AS VARCHAR)], lambda v: CASE
    WHEN v IS NULL OR v = 'null' THEN NULL
    WHEN left(v, 1) = '"' THEN json_extract_string(v, '$')
    WHEN @is_number(v) AND NOT contains(v, '.') AND abs(CAST(v AS DOUBLE)) < 31536000000 THEN v
    WHEN @is_number(v) THEN error('unsupported|convert this number in a VARIANT to a date or a timestamp')
    ELSE error('100071|Failed to cast variant value to a date or a timestamp') END)[1];

-- Paths.
CREATE OR REPLACE MACRO @pointer(k) AS '/' || replace(replace(k, '~', '~0'), '/', '~1');
CREATE OR REPLACE MACRO @member(x, k) AS list_transform([CAST(x AS VARCHAR)], lambda v: CASE
    WHEN v IS NULL OR k IS NULL OR left(v, 1) <> '{' THEN NULL
    WHEN @plain(v) THEN json_extract(v, @pointer(k))
    ELSE @unpacked(json_extract(@packed(v), @pointer(k))) END)[1];
CREATE OR REPLACE MACRO @element(x, i) AS list_transform([CAST(x AS VARCHAR)], lambda v: CASE
    WHEN v IS NULL OR i IS NULL OR i < 0 OR left(v, 1) <> '[' THEN NULL
    WHEN @plain(v) THEN json_extract(v, '/' || i)
    ELSE nullif(@unpacked(json_extract(@packed(v), '/' || i))::VARCHAR, ' null')::JSON END)[1];

-- Lists of elements, in which a missing one is ` null`, and back.
CREATE OR REPLACE MACRO @elements(x) AS list_transform([CAST(x AS VARCHAR)], lambda v: CASE
    WHEN v IS NULL OR left(v, 1) <> '[' THEN NULL
    WHEN @plain(v) THEN list_transform(json_extract(v, '$[*]'), lambda e: CAST(e AS VARCHAR))
    ELSE list_transform(json_extract(@packed(v), '$[*]'), lambda e: @unpacked(e)::VARCHAR) END)[1];
CREATE OR REPLACE MACRO @array(l) AS ('[' || array_to_string(l, ',') || ']')::JSON;
CREATE OR REPLACE MACRO @fields(x) AS list_transform([CAST(x AS VARCHAR)], lambda v: CASE
    WHEN v IS NULL OR left(v, 1) <> '{' THEN NULL
    WHEN @plain(v) THEN list_transform(list_zip(json_keys(v), json_extract(v, '$.*')),
        lambda p: struct_pack(k := p[1], v := CAST(p[2] AS VARCHAR)))
    ELSE list_transform(list_zip(json_keys(v), json_extract(@packed(v), '$.*')),
        lambda p: struct_pack(k := p[1], v := @unpacked(p[2])::VARCHAR)) END)[1];
-- Of pairs that are sorted.
CREATE OR REPLACE MACRO @pairs_object(l) AS
    ('{' || array_to_string(list_transform(CAST(l AS STRUCT(k VARCHAR, v VARCHAR)[]), lambda p: to_json(p.k)::VARCHAR || ':' || p.v), ',') || '}')::JSON;
CREATE OR REPLACE MACRO @pairs_checked(pairs) AS list_transform([list_sort(CAST(pairs AS STRUCT(k VARCHAR, v VARCHAR)[]))], lambda l: CASE
    WHEN len(list_distinct(list_transform(l, lambda p: p.k))) < len(l) THEN error('100072|Duplicate field key')::JSON
    ELSE @pairs_object(l) END)[1];
CREATE OR REPLACE MACRO @object(pairs) AS @pairs_checked(list_filter(CAST(pairs AS STRUCT(k VARCHAR, v VARCHAR)[]),
    lambda p: p.k IS NOT NULL AND p.v IS NOT NULL));
CREATE OR REPLACE MACRO @object_keep_null(pairs) AS @pairs_checked(list_transform(
    list_filter(CAST(pairs AS STRUCT(k VARCHAR, v VARCHAR)[]), lambda p: p.k IS NOT NULL), lambda p: struct_pack(k := p.k, v := coalesce(p.v, 'null'))));
CREATE OR REPLACE MACRO @json_element(x) AS coalesce(CAST(x AS VARCHAR), ' null');
CREATE OR REPLACE MACRO @element_json(e) AS CAST(nullif(e, ' null') AS JSON);
CREATE OR REPLACE MACRO @variant_to_array(x) AS list_transform([CAST(x AS VARCHAR)], lambda v: CASE
    WHEN v IS NULL OR left(v, 1) = '[' THEN v::JSON
    WHEN v = 'null' THEN error('unsupported|convert the null of JSON to an ARRAY')::JSON
    ELSE ('[' || v || ']')::JSON END)[1];
CREATE OR REPLACE MACRO @variant_as_array(x) AS list_transform([CAST(x AS VARCHAR)], lambda v: CASE
    WHEN v IS NULL OR left(v, 1) = '[' THEN v::JSON
    ELSE error('unsupported|use a VARIANT that is no array as an ARRAY')::JSON END)[1];
CREATE OR REPLACE MACRO @variant_to_object(x) AS list_transform([CAST(x AS VARCHAR)], lambda v: CASE
    WHEN v IS NULL OR left(v, 1) = '{' THEN v::JSON
    WHEN v = 'null' THEN error('unsupported|convert the null of JSON to an OBJECT')::JSON
    ELSE error('100071|Failed to cast variant value to OBJECT')::JSON END)[1];
CREATE OR REPLACE MACRO @array_stored(x) AS list_transform(@elements(x), lambda e: CAST(e AS JSON));
CREATE OR REPLACE MACRO @stored_array(x) AS @array(list_transform(CAST(x AS JSON[]), lambda e: coalesce(CAST(e AS VARCHAR), ' null')));
CREATE OR REPLACE MACRO @object_stored(x) AS CASE WHEN x IS NULL THEN NULL ELSE
    map(list_transform(@fields(x), lambda p: p.k), list_transform(@fields(x), lambda p: CAST(p.v AS JSON))) END;
CREATE OR REPLACE MACRO @stored_object(x) AS @pairs_object(list_sort(list_transform(map_entries(CAST(x AS MAP(VARCHAR, JSON))),
    lambda p: struct_pack(k := p.key, v := CAST(p.value AS VARCHAR)))));

-- Order and equality, by type and value. The text of a number with many digits tells apart what is one DOUBLE.
CREATE OR REPLACE MACRO @digits_key(v) AS CASE WHEN contains(v, 'e') OR length(v) <= 16 THEN ''
    WHEN left(v, 1) = '-' THEN translate(v, '0123456789', '9876543210') ELSE v END;
CREATE OR REPLACE MACRO @variant_sort_key(x) AS list_transform([CAST(x AS VARCHAR)], lambda v: CASE
    WHEN v IS NULL THEN NULL
    WHEN left(v, 1) = '"' THEN struct_pack(r := 2, d := 0.0::DOUBLE, t := json_extract_string(v, '$'))
    WHEN @is_number(v) THEN struct_pack(r := 1, d := CAST(v AS DOUBLE), t := @digits_key(v))
    WHEN v IN ('true', 'false') THEN struct_pack(r := 0, d := 0.0::DOUBLE, t := CASE v WHEN 'true' THEN '1' ELSE '0' END)
    WHEN v = 'null' THEN struct_pack(r := 9, d := 0.0::DOUBLE, t := '')
    ELSE struct_pack(r := 3, d := 0.0::DOUBLE, t := v) END)[1];
-- NULL, or a failure where equal numbers may look different: whether Snowflake takes 1 and 1e0 for one group no page tells.
CREATE OR REPLACE MACRO @told_apart(x) AS list_transform([CAST(x AS VARCHAR)], lambda v: CASE
    WHEN left(v, 1) <> '"' AND regexp_matches(v, '[0-9]e[-+]') AND regexp_matches(@json_outside(v), '[0-9]e[-+]')
    THEN error('unsupported|group a FLOAT in a VARIANT')::BOOLEAN END)[1];
-- The order of arrays and objects is not known.
CREATE OR REPLACE MACRO @variant_order_key(x) AS list_transform([@variant_sort_key(x)], lambda k: CASE
    WHEN k.r = 3 THEN error('unsupported|sort arrays or objects')::STRUCT(r INTEGER, d DOUBLE, t VARCHAR) ELSE k END)[1];
CREATE OR REPLACE MACRO @variant_most_key(x) AS list_transform([@variant_sort_key(x)], lambda k: CASE
    WHEN k.r IN (3, 9) THEN error('unsupported|find the least or greatest of arrays, objects or the null of JSON')::STRUCT(r INTEGER, d DOUBLE, t VARCHAR) ELSE k END)[1];
CREATE OR REPLACE MACRO @variant_compared(a, b, equal, ordered, of_null) AS list_transform(
    [struct_pack(a := @variant_sort_key(a), b := @variant_sort_key(b))], lambda p: CASE
    WHEN p.a IS NULL OR p.b IS NULL THEN NULL
    WHEN p.a.r = 9 AND p.b.r = 9 THEN error('unsupported|compare the null of JSON with itself')::INTEGER
    WHEN p.a.r = 9 OR p.b.r = 9 THEN of_null
    WHEN p.a.r <> p.b.r THEN CASE WHEN equal AND 3 IN (p.a.r, p.b.r) THEN 1
        ELSE error('unsupported|compare values of several types in a VARIANT')::INTEGER END
    WHEN p.a.r = 3 AND ordered THEN error('unsupported|compare arrays or objects by size')::INTEGER
    WHEN p.a = p.b THEN 0 WHEN p.a < p.b THEN -1 ELSE 1 END)[1];
-- What can be equal has one hash, so DuckDB joins by it; the rest is looked at where the hashes are one. A text that reads as a number
-- has that number's, because it is not known whether Snowflake takes them for equal.
CREATE OR REPLACE MACRO @variant_hash(x) AS list_transform([CAST(x AS VARCHAR)], lambda v: CASE
    WHEN left(v, 1) = '"' THEN coalesce(CAST(TRY_CAST(json_extract_string(v, '$') AS DOUBLE) AS VARCHAR), json_extract_string(v, '$'))
    WHEN @is_number(v) THEN CAST(CAST(v AS DOUBLE) AS VARCHAR) ELSE v END)[1];
CREATE OR REPLACE MACRO @variant_equal(a, b) AS
    (@variant_hash(a) = @variant_hash(b) AND @variant_compared(a, b, TRUE, FALSE, NULL::INTEGER) = 0);
-- A VARIANT beside a value of a type that is known: 0 a BOOLEAN, 1 a number, 2 text. The null of JSON equals nothing.
CREATE OR REPLACE MACRO @variant_key_as(x, kind) AS list_transform([@variant_sort_key(x)], lambda k: CASE
    WHEN k.r IN (kind, 3) THEN k WHEN k.r = 9 THEN NULL
    ELSE error('unsupported|compare values of several types in a VARIANT')::STRUCT(r INTEGER, d DOUBLE, t VARCHAR) END)[1];
CREATE OR REPLACE MACRO @variant_unequal(a, b) AS
    (@variant_compared(a, b, TRUE, FALSE, error('unsupported|compare the null of JSON')::INTEGER) <> 0);
CREATE OR REPLACE MACRO @variant_less(a, b) AS
    (@variant_compared(a, b, FALSE, TRUE, error('unsupported|compare the null of JSON')::INTEGER) < 0);
CREATE OR REPLACE MACRO @variant_at_most(a, b) AS
    (@variant_compared(a, b, FALSE, TRUE, error('unsupported|compare the null of JSON')::INTEGER) <= 0);
CREATE OR REPLACE MACRO @variant_greater(a, b) AS
    (@variant_compared(a, b, FALSE, TRUE, error('unsupported|compare the null of JSON')::INTEGER) > 0);
CREATE OR REPLACE MACRO @variant_at_least(a, b) AS
    (@variant_compared(a, b, FALSE, TRUE, error('unsupported|compare the null of JSON')::INTEGER) >= 0);
CREATE OR REPLACE MACRO @variant_same(a, b) AS (@variant_sort_key(a) IS NOT DISTINCT FROM @variant_sort_key(b));
CREATE OR REPLACE MACRO @variant_distinct(a, b) AS (@variant_sort_key(a) IS DISTINCT FROM @variant_sort_key(b));

-- Equality inside arrays: elements of one type and value. The numbers 1 and 1.0e0 are one value.
CREATE OR REPLACE MACRO @keys(l) AS list_transform(l, lambda e: CASE WHEN e = ' null' THEN struct_pack(r := 10, d := 0.0::DOUBLE, t := '')
    ELSE @variant_sort_key(e) END);

-- FLATTEN. A key that is no plain name stands in brackets in the path.
CREATE OR REPLACE MACRO @key_path(base, k) AS base || CASE WHEN regexp_full_match(k, '[A-Za-z_][A-Za-z0-9_$]*')
    THEN CASE WHEN base = '' THEN k ELSE '.' || k END ELSE '[''' || replace(k, '''', '\''') || ''']' END;
CREATE OR REPLACE MACRO @flat(x, base, mode) AS list_transform([CAST(x AS VARCHAR)], lambda v: CASE
    WHEN left(v, 1) = '{' AND mode <> 'ARRAY' THEN list_transform(@fields(v), lambda p:
        struct_pack(k := p.k, p := @key_path(base, p.k), i := NULL::BIGINT, v := CAST(p.v AS JSON), t := CAST(v AS JSON), o := FALSE))
    WHEN left(v, 1) = '[' AND mode <> 'OBJECT' THEN list_filter(list_transform(@elements(v), lambda e, n:
        struct_pack(k := NULL::VARCHAR, p := base || '[' || (n - 1) || ']', i := n - 1, v := CAST(e AS JSON), t := CAST(v AS JSON),
            o := FALSE)),
        lambda r: CAST(r.v AS VARCHAR) <> ' null')
    ELSE [] END)[1];
-- What THIS is where something has nothing to expand is not known, so `o` marks such a row.
CREATE OR REPLACE MACRO @flat_outer(x, rows, base) AS list_transform([rows], lambda l: CASE WHEN len(l) > 0 THEN l
    ELSE [struct_pack(k := NULL::VARCHAR, p := base, i := NULL::BIGINT, v := NULL::JSON, t := NULL::JSON, o := x IS NOT NULL)] END)[1];

-- Which of several keys is meant that differ only in case is not known.
CREATE OR REPLACE MACRO @member_in_any_case(x, k) AS list_transform(
    [list_filter(@fields(x), lambda p: lower(p.k) = lower(k))], lambda l: CASE
    WHEN len(l) > 1 THEN error('unsupported|choose between keys that differ in case')::JSON ELSE l[1].v::JSON END)[1];

-- Functions of objects.
CREATE OR REPLACE MACRO @object_insert(o, k, v, updates) AS list_transform(
    [struct_pack(f := @fields(o), k := CAST(k AS VARCHAR), v := CAST(v AS VARCHAR))], lambda a: CASE
    WHEN a.f IS NULL OR a.k IS NULL THEN CASE WHEN a.f IS NULL THEN NULL
        ELSE error('unsupported|call OBJECT_INSERT with a key that is NULL')::JSON END
    WHEN list_contains(list_transform(a.f, lambda p: p.k), a.k) THEN CASE
        WHEN NOT updates THEN error('100072|Duplicate field key')::JSON
        WHEN a.v IS NULL THEN error('unsupported|update a key with NULL in OBJECT_INSERT')::JSON
        ELSE @pairs_object(list_transform(a.f, lambda p: CASE WHEN p.k = a.k THEN struct_pack(k := p.k, v := a.v) ELSE p END)) END
    WHEN a.v IS NULL THEN @pairs_object(a.f)
    ELSE @pairs_object(list_sort(list_append(a.f, struct_pack(k := a.k, v := a.v)))) END)[1];
CREATE OR REPLACE MACRO @object_delete(o, keys) AS
    @pairs_object(list_filter(@fields(o), lambda p: NOT coalesce(list_contains(keys, p.k), FALSE)));
CREATE OR REPLACE MACRO @object_pick(o, keys) AS
    @pairs_object(list_filter(@fields(o), lambda p: coalesce(list_contains(keys, p.k), FALSE)));
CREATE OR REPLACE MACRO @texts(x) AS list_transform(@elements(x), lambda e: @variant_text(nullif(e, ' null')));
CREATE OR REPLACE MACRO @object_keys(o) AS @array(list_transform(@fields(o), lambda p: to_json(p.k)::VARCHAR));

-- Functions of arrays: lists of elements as text.
CREATE OR REPLACE MACRO @of_key(l, key) AS list_filter(@keys(l), lambda k: k = key);
CREATE OR REPLACE MACRO @sought(x) AS CASE WHEN x IS NULL OR CAST(x AS VARCHAR) = 'null'
    THEN error('unsupported|look for NULL in an array')::STRUCT(r INTEGER, d DOUBLE, t VARCHAR) ELSE @variant_sort_key(x) END;
CREATE OR REPLACE MACRO @array_contains(x, a) AS list_transform([@elements(a)], lambda l: CASE WHEN l IS NULL THEN NULL
    ELSE list_contains(@keys(l), @sought(x)) END)[1];
CREATE OR REPLACE MACRO @array_position(x, a) AS list_transform([@elements(a)], lambda l: CASE WHEN l IS NULL THEN NULL
    ELSE list_position(@keys(l), @sought(x)) - 1 END)[1];
CREATE OR REPLACE MACRO @list_part(l, a, b) AS CASE WHEN a >= b THEN [] ELSE list_slice(l, a + 1, b) END;
CREATE OR REPLACE MACRO @array_slice(x, a, b) AS list_transform([struct_pack(l := @elements(x), a := a, b := b)], lambda p: CASE
    WHEN p.l IS NULL OR p.a IS NULL OR p.b IS NULL THEN NULL
    ELSE @array(@list_part(p.l, greatest(CASE WHEN p.a < 0 THEN len(p.l) + p.a ELSE p.a END, 0),
        least(greatest(CASE WHEN p.b < 0 THEN len(p.l) + p.b ELSE p.b END, 0), len(p.l)))) END)[1];
CREATE OR REPLACE MACRO @array_insert(x, i, v) AS list_transform(
    [struct_pack(l := @elements(x), i := i, v := @json_element(v))], lambda p: CASE
    WHEN p.l IS NULL OR p.i IS NULL THEN NULL
    WHEN p.i < -len(p.l) OR p.i > 100000 THEN error('unsupported|insert at this place of an array')::JSON
    WHEN p.i > len(p.l) THEN @array(p.l || list_transform(range(p.i - len(p.l)), lambda n: ' null') || [p.v])
    ELSE @array(list_slice(p.l, 1, CASE WHEN p.i < 0 THEN len(p.l) + p.i ELSE p.i END) || [p.v]
        || list_slice(p.l, 1 + CASE WHEN p.i < 0 THEN len(p.l) + p.i ELSE p.i END, len(p.l))) END)[1];
CREATE OR REPLACE MACRO @array_append(x, v) AS CASE WHEN x IS NULL THEN NULL ELSE @array(list_append(@elements(x), @json_element(v))) END;
CREATE OR REPLACE MACRO @array_prepend(x, v) AS CASE WHEN x IS NULL THEN NULL ELSE @array(list_prepend(@json_element(v), @elements(x))) END;
CREATE OR REPLACE MACRO @array_cat(a, b) AS CASE WHEN a IS NULL OR b IS NULL THEN NULL
    ELSE @array(list_concat(@elements(a), @elements(b))) END;
CREATE OR REPLACE MACRO @array_compact(x) AS list_transform([@elements(x)], lambda l: CASE
    WHEN list_contains(l, 'null') THEN error('unsupported|compact an array with the null of JSON')::JSON
    ELSE @array(list_filter(l, lambda e: e <> ' null')) END)[1];
CREATE OR REPLACE MACRO @list_unique(l) AS list_filter(l, lambda e, n: list_position(@keys(l), @keys([e])[1]) = n);
CREATE OR REPLACE MACRO @array_distinct(x) AS list_transform([@elements(x)], lambda l: @array(@list_unique(l)))[1];
CREATE OR REPLACE MACRO @list_common(l, r) AS list_filter(l, lambda e, n:
    len(@of_key(list_slice(l, 1, n), @keys([e])[1])) <= len(@of_key(r, @keys([e])[1])));
CREATE OR REPLACE MACRO @array_intersection(a, b) AS CASE WHEN a IS NULL OR b IS NULL THEN NULL ELSE
    list_transform([struct_pack(l := @elements(a), r := @elements(b))], lambda p: @array(@list_common(p.l, p.r)))[1] END;
CREATE OR REPLACE MACRO @list_except(l, r) AS list_filter(l, lambda e, n:
    len(@of_key(list_slice(l, 1, n), @keys([e])[1])) > len(@of_key(r, @keys([e])[1])));
CREATE OR REPLACE MACRO @array_except(a, b) AS CASE WHEN a IS NULL OR b IS NULL THEN NULL ELSE
    list_transform([struct_pack(l := @elements(a), r := @elements(b))], lambda p: @array(@list_except(p.l, p.r)))[1] END;
CREATE OR REPLACE MACRO @arrays_overlap(a, b) AS CASE WHEN a IS NULL OR b IS NULL THEN NULL
    ELSE list_has_any(@keys(@elements(a)), @keys(@elements(b))) END;
-- The order of elements of several types is not known.
CREATE OR REPLACE MACRO @sortable_list(l) AS CASE
    WHEN len(list_distinct(list_transform(@keys(list_filter(l, lambda e: e NOT IN (' null', 'null'))), lambda k: k.r))) > 1
        OR list_contains(list_transform(@keys(l), lambda k: k.r), 3)
        THEN error('unsupported|sort elements of these types')::VARCHAR[] ELSE l END;
CREATE OR REPLACE MACRO @list_ascending(l) AS list_transform(list_sort(list_transform(l,
    lambda e: struct_pack(k := @variant_sort_key(e), e := e))), lambda s: s.e);
CREATE OR REPLACE MACRO @list_descending(l) AS list_transform(list_reverse_sort(list_transform(l,
    lambda e: struct_pack(k := @variant_sort_key(e), e := e))), lambda s: s.e);
CREATE OR REPLACE MACRO @array_sort(x, ascending, nulls_first) AS list_transform([@sortable_list(@elements(x))], lambda l: CASE
    WHEN l IS NULL THEN NULL
    ELSE @array(CASE WHEN nulls_first THEN list_filter(l, lambda e: e = ' null') ELSE [] END
        || CASE WHEN ascending THEN @list_ascending(list_filter(l, lambda e: e <> ' null'))
            ELSE @list_descending(list_filter(l, lambda e: e <> ' null')) END
        || CASE WHEN nulls_first THEN [] ELSE list_filter(l, lambda e: e = ' null') END) END)[1];
-- Where missing elements stand by default downwards is not known.
CREATE OR REPLACE MACRO @array_without_null(x, ascending) AS CASE
    WHEN NOT ascending AND list_contains(@elements(x), ' null') THEN error('unsupported|sort an array with NULL downwards')::JSON
    ELSE x END;
CREATE OR REPLACE MACRO @array_most(x, greatest_one) AS list_transform([@sortable_list(@elements(x))], lambda l: CASE
    WHEN list_contains(l, 'null') THEN error('unsupported|find the least or greatest of an array with the null of JSON')::JSON
    WHEN greatest_one THEN @list_descending(list_filter(l, lambda e: e <> ' null'))[1]::JSON
    ELSE @list_ascending(list_filter(l, lambda e: e <> ' null'))[1]::JSON END)[1];
CREATE OR REPLACE MACRO @array_remove(x, v) AS list_transform([@elements(x)], lambda l: CASE
    WHEN l IS NULL OR v IS NULL THEN NULL
    ELSE @array(list_filter(l, lambda e: @keys([e])[1] <> @sought(v))) END)[1];
CREATE OR REPLACE MACRO @array_remove_at(x, i) AS list_transform([struct_pack(l := @elements(x), i := i)], lambda p: CASE
    WHEN p.l IS NULL OR p.i IS NULL THEN NULL
    ELSE @array(list_filter(p.l, lambda e, n: n - 1 <> CASE WHEN p.i < 0 THEN len(p.l) + p.i ELSE p.i END)) END)[1];
CREATE OR REPLACE MACRO @array_to_string(x, s) AS CASE WHEN x IS NULL OR s IS NULL THEN NULL ELSE
    coalesce(array_to_string(list_transform(@elements(x), lambda e: coalesce(@variant_text(nullif(e, ' null')), '')), s), '') END;
CREATE OR REPLACE MACRO @array_flatten(x) AS list_transform([@elements(x)], lambda l: CASE
    WHEN l IS NULL THEN NULL
    WHEN list_contains(l, ' null') THEN NULL
    WHEN len(list_filter(l, lambda e: left(e, 1) <> '[')) > 0
        THEN error('100107|Not an array: an element of the argument of ARRAY_FLATTEN is no array')::JSON
    ELSE @array(flatten(list_transform(l, lambda e: @elements(e)))) END)[1];
CREATE OR REPLACE MACRO @array_generate_range(a, b, step) AS CASE WHEN a IS NULL OR b IS NULL OR step IS NULL THEN NULL
    WHEN step = 0 THEN error('unsupported|ARRAY_GENERATE_RANGE with a step of 0')::JSON
    ELSE @array(list_transform(range(a, b, step), lambda n: CAST(n AS VARCHAR))) END;
CREATE OR REPLACE MACRO @array_reverse(x) AS @array(list_reverse(@elements(x)));
CREATE OR REPLACE MACRO @text_list(l) AS @array(list_transform(l, lambda t: to_json(CAST(t AS VARCHAR))::VARCHAR));
CREATE OR REPLACE MACRO @split_list(x, s) AS CASE WHEN s = '' THEN [x] ELSE string_split(x, s) END;
CREATE OR REPLACE MACRO @split(x, s) AS CASE WHEN x IS NULL OR s IS NULL THEN NULL ELSE @text_list(@split_list(x, s)) END;
CREATE OR REPLACE MACRO @strtok_list(x, d) AS CASE WHEN d = '' THEN error('unsupported|split text at no character')::VARCHAR[]
    ELSE list_filter(string_split_regex(x, '[' || regexp_escape(d) || ']'), lambda t: t <> '') END;
CREATE OR REPLACE MACRO @strtok_to_array(x, d) AS list_transform([@strtok_list(x, d)], lambda l: CASE
    WHEN x IS NULL OR d IS NULL THEN NULL
    WHEN len(l) = 0 THEN error('unsupported|make an array of text without a token')::JSON
    ELSE @text_list(l) END)[1];
CREATE OR REPLACE MACRO @arrays_to_object(k, v) AS CASE WHEN k IS NULL OR v IS NULL THEN NULL
    WHEN len(@elements(k)) <> len(@elements(v)) THEN error('unsupported|ARRAYS_TO_OBJECT with arrays of several lengths')::JSON
    ELSE @object(list_transform(list_zip(@texts(k), @elements(v)),
        lambda p: struct_pack(k := p[1], v := CASE WHEN p[2] = ' null' THEN 'null' ELSE p[2] END))) END;
CREATE OR REPLACE MACRO @zipped(l) AS @array(list_transform(range(list_max(list_transform(l, lambda a: len(a)))), lambda i: '{'
    || array_to_string(list_transform(l, lambda a, n: '"$' || n || '":' || coalesce(nullif(a[i + 1], ' null'), 'null')), ',') || '}'));
CREATE OR REPLACE MACRO @arrays_zip(arrays) AS list_transform([list_transform(arrays, lambda a: @elements(a))], lambda l: CASE
    WHEN len(list_filter(l, lambda a: a IS NULL)) > 0 THEN NULL
    WHEN len(l) > 9 OR list_max(list_transform(l, lambda a: len(a))) = 0
        THEN error('unsupported|zip more than nine arrays, or only empty ones')::JSON
    ELSE @zipped(l) END)[1];
CREATE OR REPLACE MACRO @json_aggregate(l) AS CASE WHEN list_contains(l, 'null')
    THEN error('unsupported|put the null of JSON into an array')::JSON ELSE @array(coalesce(l, [])) END;
CREATE OR REPLACE MACRO @strip_null(x) AS CASE WHEN CAST(x AS VARCHAR) = 'null' THEN NULL
    WHEN left(CAST(x AS VARCHAR), 1) IN ('{', '[') THEN error('unsupported|strip null values of an array or an object')::JSON ELSE x END;
CREATE OR REPLACE MACRO @url_part(x, n) AS regexp_extract(x, '^([A-Za-z][-A-Za-z0-9+.]*):(//([^/?#:]*(?::[^/?#@]*@[^/?#:@]*)?)(?::([0-9]+))?/?)?([^?#]*)(\?[^#]*)?(#.*)?$', n);
CREATE OR REPLACE MACRO @null_text(x) AS CASE WHEN x = '' THEN 'null' ELSE to_json(CAST(x AS VARCHAR))::VARCHAR END;
CREATE OR REPLACE MACRO @url_query(q) AS CASE WHEN q = '' THEN 'null' ELSE CAST(@object(list_transform(string_split(q, '&'),
    lambda p: CASE WHEN contains(p, '=') THEN struct_pack(k := string_split(p, '=')[1], v := to_json(p[instr(p, '=') + 1:])::VARCHAR)
    ELSE error('unsupported|parse a parameter without a value in a URL')::STRUCT(k VARCHAR, v VARCHAR) END)) AS VARCHAR) END;
CREATE OR REPLACE MACRO @parse_url(x) AS list_transform([CAST(x AS VARCHAR)], lambda u: CASE WHEN u IS NULL THEN NULL
    WHEN @url_part(u, 1) = '' OR contains(u, '%') OR @url_part(u, 6) = '?'  THEN error('unsupported|parse this URL')::JSON
    ELSE ('{"fragment":' || @null_text(@url_part(u, 7)[2:]) || ',"host":' || @null_text(@url_part(u, 3))
        || ',"parameters":' || @url_query(@url_part(u, 6)[2:]) || ',"path":' || to_json(@url_part(u, 5))::VARCHAR
        || ',"port":' || @null_text(@url_part(u, 4)) || ',"query":' || @null_text(@url_part(u, 6)[2:])
        || ',"scheme":' || @null_text(@url_part(u, 1)) || '}')::JSON END)[1];
CREATE OR REPLACE MACRO @if_kind(x, kinds) AS list_transform([x], lambda v: CASE WHEN list_contains(kinds, @variant_kind(v)) THEN v END)[1];
CREATE OR REPLACE MACRO @if_text(x) AS list_transform([x], lambda v: CASE WHEN @text_kind(v) = 'VARCHAR' THEN v END)[1];
CREATE OR REPLACE MACRO @array_text(l) AS CASE WHEN l IS NULL THEN NULL ELSE @array(l) END;
CREATE OR REPLACE MACRO @split_pieces(l) AS list_transform(l, lambda t, n: struct_pack(i := n, v := t));
CREATE OR REPLACE MACRO @flat_step(x, base, mode, o) AS list_transform(@flat(x, base, mode), lambda e, n: struct_pack(e := e, o := list_append(o, n)));
