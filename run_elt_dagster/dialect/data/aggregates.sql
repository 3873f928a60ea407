-- Macros of DuckDB that do what Snowflake does. `@name` is the full name of one.
-- A macro ends with a semicolon at the end of a line.
-- A failure that Snowflake would give is error('<number>|<text>'); what is not known here is error('unsupported|<what>').

-- A quotient of whole numbers rounded half away from zero, for a dividend that has no room for the power of ten.
CREATE OR REPLACE MACRO @long_quotient(a, b, power) AS
    (a // b) * power + (((a % b) * power) * 2 + b) // (b * 2);
-- A share of a whole, which no page tells for a whole of zero.
CREATE OR REPLACE MACRO @share(a, b) AS CASE
    WHEN b = 0 THEN error('unsupported|find the share of a sum of zero')::HUGEINT
    ELSE @quotient(a, b) END;
CREATE OR REPLACE MACRO @float_share(a, b) AS CASE
    WHEN b = 0 THEN error('unsupported|find the share of a sum of zero')::DOUBLE
    ELSE a / b END;
-- What is known of values, unless all are equal: no page tells that.
CREATE OR REPLACE MACRO @of_spread(name, equal, result) AS CASE
    WHEN equal THEN error('unsupported|' || name || ' of values that are all equal')::DOUBLE ELSE result END;
CREATE OR REPLACE MACRO @of_pairs(name, one, other, result) AS @of_spread(name, one = 0 OR other = 0, result);
-- How often neighbours in a list differ.
CREATE OR REPLACE MACRO @changes(items) AS CASE
    WHEN len(list_filter(items, lambda x: x IS NULL)) > 0
    THEN error('unsupported|CONDITIONAL_CHANGE_EVENT of NULL')::BIGINT
    ELSE len(list_filter(list_zip(items[:-2], items[2:]), lambda p: p[1] <> p[2])) END;
-- The value at a share of an ordered list; between two where the share falls between. The share has three digits.
CREATE OR REPLACE MACRO @between_items(items, place) AS
    items[floor(place)::BIGINT + 1]
    + (items[ceil(place)::BIGINT + 1] - items[floor(place)::BIGINT + 1]) * (place - floor(place))::DECIMAL(4,3);
