-- Macros of DuckDB that do what Snowflake does. `@name` is the full name of one.
-- A macro ends with a semicolon at the end of a line.
-- A failure that Snowflake would give is error('<number>|<text>'); what is not known here is error('unsupported|<what>').

CREATE OR REPLACE MACRO @limited(x, size) AS CASE
    WHEN length(x) > size THEN error('100078|String is too long and would be truncated') ELSE x END;
CREATE OR REPLACE MACRO @try_limited(x, size) AS CASE WHEN length(x) > size THEN NULL ELSE x END;
CREATE OR REPLACE MACRO @refused_piece(what) AS error('unsupported|' || what)::VARCHAR;
-- DuckDB makes another capital letter of it than most.
CREATE OR REPLACE MACRO @upper(x) AS CASE WHEN contains(x, 'ß') THEN @refused_piece('write ß in capital letters') ELSE upper(x) END;
CREATE OR REPLACE MACRO @refused_int(what) AS error('unsupported|' || what)::BIGINT;

-- Parts of a text.
CREATE OR REPLACE MACRO @left(x, n) AS left(x, CASE WHEN n < 0 THEN 0 ELSE n END);
CREATE OR REPLACE MACRO @right(x, n) AS right(x, CASE WHEN n < 0 THEN 0 ELSE n END);
CREATE OR REPLACE MACRO @substr_from(x, start) AS CASE
    WHEN start > 0 THEN substr(x, start)
    WHEN start = 0 THEN x
    WHEN -start <= length(x) THEN substr(x, length(x) + start + 1)
    WHEN x IS NULL OR start IS NULL THEN NULL
    ELSE @refused_piece('read a text from before its first character') END;
CREATE OR REPLACE MACRO @substr(x, start, size) AS CASE
    WHEN size <= 0 THEN substr(x, 1, CASE WHEN start IS NULL THEN NULL ELSE 0 END)
    WHEN size IS NULL THEN NULL
    ELSE substr(@substr_from(x, start), 1, size) END;
CREATE OR REPLACE MACRO @insert(x, start, size, part) AS CASE
    WHEN start < 1 OR size < 0 OR start > length(x) + 1
    THEN @refused_piece('replace a part of a text outside of it')
    ELSE substr(x, 1, start - 1) || part || substr(x, start + size) END;
CREATE OR REPLACE MACRO @position(part, x, start) AS CASE
    WHEN start < 1 OR (start > 1 AND part = '') THEN @refused_int('look for a text from this position')
    WHEN instr(substr(x, start), part) = 0 THEN 0::BIGINT
    ELSE instr(substr(x, start), part) + start - 1 END;
CREATE OR REPLACE MACRO @text_pieces(x, sep) AS CASE WHEN sep = '' THEN [x] ELSE string_split(x, sep) END;
CREATE OR REPLACE MACRO @split_json(x, sep) AS CASE WHEN x IS NULL OR sep IS NULL THEN NULL ELSE to_json(@text_pieces(x, sep)) END;
CREATE OR REPLACE MACRO @split_part(x, sep, n) AS CASE
    WHEN sep IS NOT NULL AND n IS NOT NULL
    THEN list_transform([x], lambda sf_x: CASE WHEN sf_x IS NOT NULL
        THEN coalesce(@text_pieces(sf_x, sep)[CASE WHEN n = 0 THEN 1 ELSE n END], '') END)[1] END;
CREATE OR REPLACE MACRO @text_tokens(x, sep) AS list_filter(
    string_split(translate(x, sep, repeat(left(sep, 1), length(sep))), left(sep, 1)), lambda sf_part: sf_part <> '');
CREATE OR REPLACE MACRO @all_tokens(x, sep) AS CASE
    WHEN sep = '' THEN list_filter([x], lambda sf_part: sf_part <> '') ELSE @text_tokens(x, sep) END;
CREATE OR REPLACE MACRO @strtok(x, sep, n) AS CASE
    WHEN n < 1 THEN @refused_piece('take a token before the first one')
    ELSE @all_tokens(x, sep)[n] END;
CREATE OR REPLACE MACRO @strtok_json(x, sep) AS CASE
    WHEN x IS NULL OR sep IS NULL THEN NULL ELSE to_json(@all_tokens(x, sep)) END;

-- Texts from texts.
CREATE OR REPLACE MACRO @joined(parts, sep) AS CASE
    WHEN sep IS NOT NULL THEN list_reduce(parts, lambda sf_one, sf_two: sf_one || sep || sf_two) END;
CREATE OR REPLACE MACRO @padding(x, n, pad) AS CASE
    WHEN n > length(x) AND pad = '' THEN @refused_piece('pad a text with nothing')
    WHEN n > length(x) THEN left(repeat(pad, (n - length(x))::BIGINT), (n - length(x))::BIGINT)
    WHEN n IS NOT NULL AND pad IS NOT NULL THEN '' END;
CREATE OR REPLACE MACRO @lpad(x, n, pad) AS list_transform([x], lambda sf_x:
    @left(@padding(sf_x, n, pad) || sf_x, n))[1];
CREATE OR REPLACE MACRO @rpad(x, n, pad) AS list_transform([x], lambda sf_x:
    @left(sf_x || @padding(sf_x, n, pad), n))[1];
CREATE OR REPLACE MACRO @repeat(x, n) AS repeat(x, CASE WHEN n < 0 THEN 0 ELSE n END);
CREATE OR REPLACE MACRO @reverse(x) AS array_to_string(list_reverse(string_split(x, '')), '');
CREATE OR REPLACE MACRO @translate(x, old, new) AS translate(x, old, CASE
    WHEN length(new) > length(old) THEN @refused_piece('translate fewer characters than it is given') ELSE new END);
CREATE OR REPLACE MACRO @initcap_ends() AS
    ' !?@"^#$&~_,.:;+-*%/|\[](){}<>' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13);
CREATE OR REPLACE MACRO @initcap_words(x, ends, pattern) AS array_to_string(list_transform(
    regexp_extract_all(x, pattern), lambda sf_word, sf_i: CASE
        WHEN sf_i > 1 AND contains(ends, left(sf_word, 1)) THEN lower(sf_word)
        ELSE upper(left(sf_word, 1)) || lower(substr(sf_word, 2)) END), '');
CREATE OR REPLACE MACRO @initcap(x, ends) AS CASE WHEN ends IS NOT NULL
    THEN @initcap_words(x, ends, '(?s)[^\x00' || regexp_replace(ends, '([\\\]\[^-])', '\\\1', 'g') || ']+|.') END;
CREATE OR REPLACE MACRO @editdistance(x, y) AS CASE
    WHEN strlen(x) <> length(x) OR strlen(y) <> length(y)
    THEN @refused_int('compare texts with other than ASCII characters by EDITDISTANCE')
    ELSE levenshtein(x, y) END;
CREATE OR REPLACE MACRO @limited_distance(distance, most) AS CASE
    WHEN distance IS NULL OR most IS NULL THEN NULL WHEN most < 0 THEN 0 WHEN distance > most THEN most ELSE distance END;
-- Two pages of the reference differ on texts with other characters.
CREATE OR REPLACE MACRO @jarowinkler(x, y) AS CASE
    WHEN strlen(x) <> length(x) OR strlen(y) <> length(y)
    THEN @refused_int('compare texts with other than ASCII characters by JAROWINKLER_SIMILARITY')
    ELSE floor(round(jaro_winkler_similarity(lower(x), lower(y)) * 100, 9))::BIGINT END;
CREATE OR REPLACE MACRO @ascii(x) AS CASE
    WHEN x = '' THEN 0
    WHEN unicode(x) > 127 THEN @refused_int('give the ASCII code of this character')
    ELSE unicode(x)::BIGINT END;
CREATE OR REPLACE MACRO @chr(n) AS CASE
    WHEN n < 1 OR n > 1114111 OR n BETWEEN 55296 AND 57343
    THEN @refused_piece('give the character with this code')
    ELSE chr(n::INTEGER) END;
CREATE OR REPLACE MACRO @like(x, pattern, sign) AS CASE
    WHEN length(sign) <> 1 THEN error('unsupported|match with this ESCAPE')::BOOLEAN
    ELSE like_escape(x, pattern, sign) END;
CREATE OR REPLACE MACRO @ilike(x, pattern, sign) AS CASE
    WHEN length(sign) <> 1 THEN error('unsupported|match with this ESCAPE')::BOOLEAN
    ELSE ilike_escape(x, pattern, sign) END;

-- A number in a format. `x` counts units behind the point, of which there are `scale`. A zero before the point, one at the
-- end where the format has a 9, and what is too long for the format are not known.
CREATE OR REPLACE MACRO @grouped(digits, grouping) AS CASE
    WHEN grouping THEN regexp_replace(reverse(regexp_replace(reverse(digits), '([0-9]{3})', '\1,', 'g')), '^,', '')
    ELSE digits END;
CREATE OR REPLACE MACRO @whole_digits(x, scale, least) AS
    CASE WHEN length((abs(x) // @power_of_ten(scale))::VARCHAR) >= least THEN (abs(x) // @power_of_ten(scale))::VARCHAR
    ELSE lpad((abs(x) // @power_of_ten(scale))::VARCHAR, least, '0') END;
CREATE OR REPLACE MACRO @fraction_digits(x, scale) AS CASE
    WHEN scale > 0 THEN lpad((abs(x) % @power_of_ten(scale))::VARCHAR, scale, '0') ELSE '' END;
CREATE OR REPLACE MACRO @number_body(x, scale, least, grouping, point, dollar) AS
    dollar || @grouped(@whole_digits(x, scale, least), grouping) || point || @fraction_digits(x, scale);
CREATE OR REPLACE MACRO @filled(body, width, compact) AS CASE WHEN compact THEN body ELSE lpad(body, width, ' ') END;
CREATE OR REPLACE MACRO @number_format(x, scale, most, least, zeros, grouping, point, dollar, sign, compact, width) AS list_transform([x], lambda sf_x: CASE
    WHEN sf_x IS NULL THEN NULL
    WHEN abs(sf_x) >= @power_of_ten(scale + most) OR scale > 0 AND least = 0 AND abs(sf_x) < @power_of_ten(scale)
        OR zeros < scale AND abs(sf_x) % 10 = 0 OR sign = 'MI' AND compact AND sf_x >= 0
        OR sign = '+' AND NOT compact AND length(@number_body(sf_x, scale, least, grouping, point, dollar)) < width
    THEN error('unsupported|write this number in this format')::VARCHAR
    WHEN sign = '+' THEN CASE WHEN sf_x < 0 THEN '-' ELSE '+' END || @number_body(sf_x, scale, least, grouping, point, dollar)
    WHEN sign = '' THEN @filled(CASE WHEN sf_x < 0 THEN '-' ELSE '' END
        || @number_body(sf_x, scale, least, grouping, point, dollar), width + 1, compact)
    ELSE @filled(@number_body(sf_x, scale, least, grouping, point, dollar), width, compact)
        || CASE WHEN sf_x < 0 THEN '-' WHEN sign = 'S' THEN '+' ELSE ' ' END END)[1];

CREATE OR REPLACE MACRO @hex_format(x, size, sign) AS CASE
    WHEN x IS NULL THEN NULL
    WHEN abs(x) >= CAST(pow(16, size) / 2 AS BIGINT) THEN error('unsupported|write this number in this format')::VARCHAR
    WHEN sign THEN CASE WHEN x < 0 THEN '-' ELSE '+' END || lpad(to_hex(abs(x)::BIGINT), size, '0')
    WHEN x < 0 THEN lpad(to_hex(CAST(pow(16, size) AS BIGINT) + x::BIGINT), size, '0')
    ELSE lpad(to_hex(x::BIGINT), size, '0') END;
CREATE OR REPLACE MACRO @exponent_format(x, scale) AS CASE
    WHEN x = 0 THEN '0E0'
    ELSE CASE WHEN x < 0 THEN '-' ELSE '' END
        || regexp_replace(rtrim(abs(x)::VARCHAR, '0'), '^(.)(.)', '\1.\2') || 'E' || (length(abs(x)::VARCHAR) - 1 - scale) END;

-- Encodings. A text is its UTF-8.
CREATE OR REPLACE MACRO @binary_text(x) AS hex(x);
CREATE OR REPLACE MACRO @is_hex(x) AS regexp_full_match(x, '([0-9A-Fa-f]{2})*');
CREATE OR REPLACE MACRO @is_base64(x) AS regexp_full_match(x, '([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?');
CREATE OR REPLACE MACRO @try_text_to_binary(x) AS CASE WHEN @is_hex(x) THEN unhex(x) END;
CREATE OR REPLACE MACRO @text_to_binary(x) AS CASE
    WHEN NOT @is_hex(x) THEN error('100115|The following string is not a legal hex-encoded value: ''' || x || '''')::BLOB
    ELSE unhex(x) END;
CREATE OR REPLACE MACRO @try_base64_to_binary(x) AS CASE WHEN @is_base64(x) THEN from_base64(x) END;
CREATE OR REPLACE MACRO @base64_to_binary(x) AS CASE
    WHEN NOT @is_base64(x) THEN error('100115|The following string is not a legal base64-encoded value: ''' || x || '''')::BLOB
    ELSE from_base64(x) END;
CREATE OR REPLACE MACRO @try_binary_string(x) AS CASE
    WHEN encode(decode(x, 'replace')) = x THEN decode(x, 'replace') END;
CREATE OR REPLACE MACRO @binary_string(x) AS CASE
    WHEN encode(decode(x, 'replace')) <> x THEN @refused_piece('read bytes that are not UTF-8 as text')
    ELSE decode(x, 'replace') END;
CREATE OR REPLACE MACRO @hex_encode(x, casing) AS CASE
    WHEN casing = 0 THEN lower(hex(x)) WHEN casing = 1 THEN hex(x)
    WHEN casing IS NULL THEN NULL ELSE @refused_piece('write hexadecimal digits in this case') END;
CREATE OR REPLACE MACRO @base64_encode(x, size) AS CASE
    WHEN size = 0 THEN to_base64(x) WHEN size IS NULL THEN NULL
    ELSE @refused_piece('break the lines of BASE64_ENCODE') END;
CREATE OR REPLACE MACRO @sha2(x, bits) AS CASE
    WHEN bits = 256 OR bits = 0 THEN sha256(x) WHEN bits IS NULL THEN NULL
    ELSE @refused_piece('compute SHA2 with this number of bits') END;

CREATE OR REPLACE MACRO @uuid_digits(h) AS substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-5' || substr(h, 14, 3) || '-'
    || translate(substr(h, 17, 1), '0123456789abcdef', '89ab89ab89ab89ab') || substr(h, 18, 3) || '-' || substr(h, 21, 12);
CREATE OR REPLACE MACRO @uuid_of_name(space, name) AS CASE
    WHEN NOT regexp_full_match(space, '[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}')
    THEN @refused_piece('make a UUID in this name space')
    ELSE list_transform([sha1(unhex(replace(space, '-', '')) || encode(name))], lambda sf_h: @uuid_digits(sf_h))[1] END;

-- Regular expressions in columns: what `regexes.py` refuses in constants, and all alternatives.
CREATE OR REPLACE MACRO @column_regex(p, flags) AS list_transform([p], lambda sf_p: CASE
    WHEN regexp_matches(sf_p, '\\[^dDsSwWbBntrf[:punct:] ]') OR contains(sf_p, '|')
        OR regexp_matches(regexp_replace(sf_p, '\\[[:punct:]]', 'x', 'g'), '\(\?|[*+?}][*+?]')
        OR regexp_full_match('', replace(sf_p, '\b', ''))
    THEN @refused_piece('match this kind of regular expression in a column')
    ELSE flags || sf_p END)[1];
CREATE OR REPLACE MACRO @at_least(n, least) AS CASE
    WHEN n < least THEN @refused_int('match with this position, occurrence or option') ELSE n END;
CREATE OR REPLACE MACRO @list_json(x) AS list_transform([x], lambda sf_x: CASE WHEN sf_x IS NOT NULL THEN to_json(sf_x) END)[1];
CREATE OR REPLACE MACRO @regex_replacement(other) AS CASE
    WHEN regexp_matches(other, '\\([^1-9]|$)') THEN @refused_piece('replace by this text') ELSE other END;
CREATE OR REPLACE MACRO @lengths(texts) AS coalesce(list_sum(list_transform(texts, lambda sf_text: length(sf_text))), 0)::BIGINT;
CREATE OR REPLACE MACRO @match_position(x, r, n) AS
    @lengths(regexp_split_to_array(x, r)[1:n]) + @lengths(regexp_extract_all(x, r)[1:n - 1]) + 1;
CREATE OR REPLACE MACRO @regexp_instr(x, r, n, after, start) AS list_transform([x], lambda sf_x: CASE
    WHEN len(regexp_extract_all(sf_x, r)) < n THEN 0::BIGINT
    WHEN sf_x IS NULL OR r IS NULL OR n IS NULL OR start IS NULL THEN NULL
    ELSE @match_position(sf_x, r, n) + start - 1
        + CASE WHEN after = 1 THEN length(regexp_extract_all(sf_x, r)[n]) ELSE 0 END END)[1];
CREATE OR REPLACE MACRO @regexp_instr_group(x, r, n, after, start, divided) AS list_transform([x], lambda sf_x: CASE
    WHEN len(regexp_extract_all(sf_x, r)) < n THEN 0::BIGINT
    WHEN sf_x IS NULL OR n IS NULL OR start IS NULL THEN NULL
    ELSE @match_position(sf_x, r, n) + start - 1 + length(regexp_extract_all(sf_x, divided, 1)[n])
        + CASE WHEN after = 1 THEN length(regexp_extract_all(sf_x, r, 1)[n]) ELSE 0 END END)[1];
CREATE OR REPLACE MACRO @regexp_replace_one(whole, x, r, other, n, start) AS list_transform([[whole, x]], lambda sf_x: CASE
    WHEN len(regexp_extract_all(sf_x[2], r)) < n THEN sf_x[1]
    WHEN sf_x[2] IS NULL OR r IS NULL OR n IS NULL OR start IS NULL THEN NULL
    ELSE substr(sf_x[1], 1, @match_position(sf_x[2], r, n) + start - 2) || other
        || substr(sf_x[2], @match_position(sf_x[2], r, n) + length(regexp_extract_all(sf_x[2], r)[n])) END)[1];
