-- Macros of DuckDB that do what Snowflake does. `@name` is the full name of one.
-- A macro ends with a semicolon at the end of a line.
-- A failure that Snowflake would give is error('<number>|<text>'); what is not known here is error('unsupported|<what>').

CREATE OR REPLACE MACRO @text_boolean(x) AS CASE
    WHEN lower(x) IN ('true', 't', 'yes', 'y', 'on', '1') THEN TRUE
    WHEN lower(x) IN ('false', 'f', 'no', 'n', 'off', '0') THEN FALSE
    WHEN x IS NULL THEN NULL
    ELSE error('100037|Boolean value ''' || x || ''' is not recognized')::BOOLEAN END;
CREATE OR REPLACE MACRO @try_text_boolean(x) AS CASE
    WHEN lower(x) IN ('true', 't', 'yes', 'y', 'on', '1') THEN TRUE
    WHEN lower(x) IN ('false', 'f', 'no', 'n', 'off', '0') THEN FALSE END;
CREATE OR REPLACE MACRO @to_binary(x, form) AS CASE upper(form)
    WHEN 'HEX' THEN @text_to_binary(x) WHEN 'BASE64' THEN @base64_to_binary(x)
    WHEN 'UTF-8' THEN encode(x) WHEN 'UTF8' THEN encode(x)
    ELSE error('unsupported|read bytes in this format')::BLOB END;
CREATE OR REPLACE MACRO @try_to_binary(x, form) AS CASE upper(form)
    WHEN 'HEX' THEN @try_text_to_binary(x) WHEN 'BASE64' THEN @try_base64_to_binary(x)
    WHEN 'UTF-8' THEN encode(x) WHEN 'UTF8' THEN encode(x)
    ELSE error('unsupported|read bytes in this format')::BLOB END;
