-- Macros of DuckDB that do what Snowflake does. `@name` is the full name of one.
-- A macro ends with a semicolon at the end of a line.
-- A failure that Snowflake would give is error('<number>|<text>'); what is not known here is error('unsupported|<what>').

CREATE OR REPLACE MACRO @quotient(a, b) AS CASE
    WHEN b = 0 THEN error('100051|Division by zero')::HUGEINT
    ELSE sign(a)::HUGEINT * sign(b)::HUGEINT * ((abs(a) * 2 + abs(b)) // (abs(b) * 2)) END;
CREATE OR REPLACE MACRO @float_quotient(a, b) AS CASE WHEN b = 0 THEN error('100051|Division by zero')::DOUBLE ELSE a / b END;
CREATE OR REPLACE MACRO @div0(a, b) AS CASE WHEN b = 0 AND a IS NOT NULL THEN 0::HUGEINT WHEN b <> 0 THEN @quotient(a, b) END;
CREATE OR REPLACE MACRO @float_div0(a, b) AS CASE WHEN b = 0 AND a IS NOT NULL THEN 0::DOUBLE WHEN b <> 0 THEN a / b END;
CREATE OR REPLACE MACRO @div0null(a, b) AS CASE WHEN b IS NULL AND a IS NOT NULL THEN 0::HUGEINT ELSE @div0(a, b) END;
CREATE OR REPLACE MACRO @float_div0null(a, b) AS CASE WHEN b IS NULL AND a IS NOT NULL THEN 0::DOUBLE ELSE @float_div0(a, b) END;
CREATE OR REPLACE MACRO @mod(a, b) AS CASE WHEN b = 0 THEN error('100051|Division by zero')::HUGEINT ELSE a % b END;
CREATE OR REPLACE MACRO @float_mod(a, b) AS CASE WHEN b = 0 THEN error('100051|Division by zero')::DOUBLE ELSE a % b END;

-- Numbers made shorter. A whole number counts the old units, `unit` says how many of them are one of the new ones.
CREATE OR REPLACE MACRO @power_of_ten(n) AS CAST('1' || repeat('0', n) AS HUGEINT);
CREATE OR REPLACE MACRO @unit_of_digits(n, scale) AS @power_of_ten(CASE WHEN n > scale THEN 0 ELSE scale - n END);
CREATE OR REPLACE MACRO @to_round(x, unit) AS @quotient(x, unit);
CREATE OR REPLACE MACRO @to_trunc(x, unit) AS x // unit;
CREATE OR REPLACE MACRO @to_floor(x, unit) AS x // unit - CASE WHEN x % unit < 0 THEN 1 ELSE 0 END;
CREATE OR REPLACE MACRO @to_ceil(x, unit) AS x // unit + CASE WHEN x % unit > 0 THEN 1 ELSE 0 END;
CREATE OR REPLACE MACRO @to_round_even(x, unit) AS CASE
    WHEN abs(x % unit) * 2 = unit AND (x // unit) % 2 = 0 THEN x // unit ELSE @quotient(x, unit) END;
CREATE OR REPLACE MACRO @float_half(x) AS sign(x) * floor(abs(x) + 0.5);
CREATE OR REPLACE MACRO @float_round(x, digits) AS CASE
    WHEN isnan(x) OR isinf(x) OR abs(x) >= 4503599627370496 AND digits >= 0 THEN x
    WHEN digits < 0 THEN @float_half(x / pow(10, -digits)) * pow(10, -digits)
    ELSE @float_half(x * pow(10, digits)) / pow(10, digits) END;
CREATE OR REPLACE MACRO @float_round_even(x, digits) AS error('unsupported|round a FLOAT half to even')::DOUBLE;
CREATE OR REPLACE MACRO @float_trunc(x, digits) AS CASE
    WHEN isnan(x) OR isinf(x) OR abs(x) >= 4503599627370496 AND digits >= 0 THEN x
    WHEN digits < 0 THEN trunc(x / pow(10, -digits)) * pow(10, -digits)
    ELSE trunc(x * pow(10, digits)) / pow(10, digits) END;
CREATE OR REPLACE MACRO @float_ceil(x, digits) AS CASE
    WHEN isnan(x) OR isinf(x) OR abs(x) >= 4503599627370496 AND digits >= 0 THEN x
    WHEN digits < 0 THEN ceil(x / pow(10, -digits)) * pow(10, -digits)
    ELSE ceil(x * pow(10, digits)) / pow(10, digits) END;
CREATE OR REPLACE MACRO @float_floor(x, digits) AS CASE
    WHEN isnan(x) OR isinf(x) OR abs(x) >= 4503599627370496 AND digits >= 0 THEN x
    WHEN digits < 0 THEN floor(x / pow(10, -digits)) * pow(10, -digits)
    ELSE floor(x * pow(10, digits)) / pow(10, digits) END;

-- Below 10 the reference shows ten digits. Above it shows also more, with nine behind the point (HAVERSINE), so both must give the
-- same text. Where a FLOAT changes to an exponent it does not say.
CREATE OR REPLACE MACRO @float_text(x) AS CASE
    WHEN x IS NULL THEN NULL
    WHEN isnan(x) THEN 'NaN'
    WHEN isinf(x) THEN CASE WHEN x > 0 THEN 'inf' ELSE '-inf' END
    WHEN x = 0 THEN '0'
    WHEN abs(x) >= 1e10 OR abs(x) < 1e-4 THEN error('unsupported|write a FLOAT of this size as text')::VARCHAR
    WHEN abs(x) >= 10 AND format('{:.10g}', x) <> rtrim(rtrim(format('{:.9f}', x), '0'), '.') THEN error('unsupported|write so many digits of a FLOAT as text')::VARCHAR
    ELSE format('{:.10g}', x) END;
-- DuckDB leaves out a zero before the point of a DECIMAL(2,2).
CREATE OR REPLACE MACRO @fraction_text(x) AS regexp_replace(CAST(x AS VARCHAR), '^(-?)\.', '\10.');
CREATE OR REPLACE MACRO @is_number_text(x) AS
    regexp_full_match(x, '\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\s*');
CREATE OR REPLACE MACRO @not_a_number(x) AS error('100038|Numeric value ''' || x || ''' is not recognized');
CREATE OR REPLACE MACRO @number_text(x, scale) AS CASE
    WHEN NOT @is_number_text(x) THEN @not_a_number(x)::VARCHAR ELSE trim(x, ' ' || chr(9) || chr(10) || chr(13)) END;
CREATE OR REPLACE MACRO @try_number_text(x, scale) AS CASE
    WHEN @is_number_text(x) THEN trim(x, ' ' || chr(9) || chr(10) || chr(13)) END;
CREATE OR REPLACE MACRO @is_float(x) AS @is_number_text(x) OR lower(x) IN ('nan', 'inf', '-inf');
CREATE OR REPLACE MACRO @known_float(x, text) AS CASE
    WHEN isinf(x) AND NOT contains(lower(text), 'inf') THEN error('unsupported|read a FLOAT of this size')::DOUBLE ELSE x END;
CREATE OR REPLACE MACRO @text_float(x) AS CASE
    WHEN NOT @is_float(x) THEN @not_a_number(x)::DOUBLE ELSE @known_float(TRY_CAST(x AS DOUBLE), x) END;
CREATE OR REPLACE MACRO @try_text_float(x) AS CASE WHEN @is_float(x) THEN @known_float(TRY_CAST(x AS DOUBLE), x) END;
CREATE OR REPLACE MACRO @unformatted(x, pattern) AS CASE
    WHEN regexp_full_match(x, pattern) THEN regexp_replace(x, '[\s$,]', '', 'g')
    WHEN regexp_matches(x, '[^-+0-9.,$\s]') THEN @not_a_number(x)::VARCHAR
    WHEN x IS NULL THEN NULL
    ELSE error('unsupported|read this text in this format')::VARCHAR END;
CREATE OR REPLACE MACRO @try_unformatted(x, pattern) AS CASE
    WHEN regexp_full_match(x, pattern) THEN regexp_replace(x, '[\s$,]', '', 'g')
    WHEN regexp_matches(x, '[^-+0-9.,$\s]') OR x IS NULL THEN NULL
    ELSE error('unsupported|read this text in this format')::VARCHAR END;

CREATE OR REPLACE MACRO @floating(what) AS error('100030|Invalid floating point operation: ' || what)::DOUBLE;
CREATE OR REPLACE MACRO @finite(x, what) AS CASE WHEN isinf(x) THEN @floating(what) ELSE x END;
CREATE OR REPLACE MACRO @ln(x) AS CASE WHEN x <= 0 THEN @floating('ln(' || x || ')') ELSE ln(x) END;
CREATE OR REPLACE MACRO @log(base, x) AS CASE
    WHEN base <= 0 OR base = 1 OR x <= 0 THEN @floating('log(' || base || ',' || x || ')') ELSE ln(x) / ln(base) END;
CREATE OR REPLACE MACRO @sqrt(x) AS CASE WHEN x < 0 THEN @floating('sqrt(' || x || ')') ELSE sqrt(x) END;
CREATE OR REPLACE MACRO @power(x, y) AS CASE
    WHEN x = 0 AND y < 0 OR x < 0 AND y <> floor(y) THEN @floating('pow(' || x || ',' || y || ')') ELSE pow(x, y) END;
CREATE OR REPLACE MACRO @cbrt(x) AS CASE
    WHEN x = 0 THEN 0::DOUBLE ELSE cbrt(x) - (cbrt(x) * cbrt(x) * cbrt(x) - x) / (3 * cbrt(x) * cbrt(x)) END;
CREATE OR REPLACE MACRO @arc(x, result) AS CASE WHEN abs(x) > 1 THEN @floating('acos or asin of ' || x) ELSE result END;
CREATE OR REPLACE MACRO @factorial(n) AS CASE
    WHEN n < 0 OR n > 33 THEN error('unsupported|compute this factorial')::HUGEINT ELSE factorial(n::INTEGER) END;
CREATE OR REPLACE MACRO @haversine(lat1, lon1, lat2, lon2) AS 2 * 6371 * asin(sqrt(
    pow(sin(radians(lat2 - lat1) / 2), 2) + cos(radians(lat1)) * cos(radians(lat2)) * pow(sin(radians(lon2 - lon1) / 2), 2)));
CREATE OR REPLACE MACRO @width_bucket(x, low, high, n) AS CASE
    WHEN low >= high OR n <= 0 THEN error('unsupported|make buckets of these bounds')::BIGINT
    WHEN x < low THEN 0 WHEN x >= high THEN n::BIGINT + 1
    ELSE ((x - low) * n::HUGEINT // (high - low) + 1)::BIGINT END;
CREATE OR REPLACE MACRO @float_width_bucket(x, low, high, n) AS CASE
    WHEN low >= high OR n <= 0 THEN error('unsupported|make buckets of these bounds')::BIGINT
    WHEN x < low THEN 0 WHEN x >= high THEN n::BIGINT + 1
    ELSE floor((x - low) * n / (high - low))::BIGINT + 1 END;
CREATE OR REPLACE MACRO @shifted(x, n, result) AS CASE
    WHEN n < 0 OR n > 62 OR x < 0 THEN error('unsupported|shift these bits')::HUGEINT ELSE result END;
