-- Macros of DuckDB that do what Snowflake does. `@name` is the full name of one.
-- A macro ends with a semicolon at the end of a line.
-- A failure that Snowflake would give is error('<number>|<text>'); what is not known here is error('unsupported|<what>').
-- The time zone of a session is UTC. A TIMESTAMP_TZ is struct(utc, offset in minutes).

-- Text of dates and times, with the formats that Snowflake uses where none is given.
CREATE OR REPLACE MACRO @offset_text(minutes, sign) AS
    CASE WHEN minutes < 0 THEN '-' ELSE '+' END || lpad(CAST(abs(minutes) // 60 AS VARCHAR), 2, '0') || sign
    || lpad(CAST(abs(minutes) % 60 AS VARCHAR), 2, '0');
CREATE OR REPLACE MACRO @tz(moment, minutes) AS CASE WHEN moment IS NOT NULL AND minutes IS NOT NULL THEN
    struct_pack(utc := moment, "offset" := CAST(minutes AS INTEGER)) END;
CREATE OR REPLACE MACRO @tz_to_ntz(x) AS struct_extract(x, 'utc') + to_minutes(struct_extract(x, 'offset'));
CREATE OR REPLACE MACRO @tz_at(x, moment) AS @tz(moment - to_minutes(struct_extract(x, 'offset')), struct_extract(x, 'offset'));
CREATE OR REPLACE MACRO @date_text(x) AS strftime(x, '%Y-%m-%d');
CREATE OR REPLACE MACRO @time_text(x) AS left(CAST(x AS VARCHAR), 8);
CREATE OR REPLACE MACRO @ntz_text(x) AS strftime(x, '%Y-%m-%d %H:%M:%S.%g');
CREATE OR REPLACE MACRO @ltz_text(x) AS strftime(x AT TIME ZONE 'UTC', '%Y-%m-%d %H:%M:%S.%g') || ' +0000';
CREATE OR REPLACE MACRO @tz_text(x) AS @ntz_text(@tz_to_ntz(x)) || ' ' || @offset_text(struct_extract(x, 'offset'), '');

-- One into another.
CREATE OR REPLACE MACRO @date_to_ntz(x) AS CAST(x AS TIMESTAMP);
CREATE OR REPLACE MACRO @date_to_ltz(x) AS CAST(x AS TIMESTAMP) AT TIME ZONE 'UTC';
CREATE OR REPLACE MACRO @date_to_tz(x) AS @tz(CAST(x AS TIMESTAMP), 0);
CREATE OR REPLACE MACRO @ntz_to_date(x) AS CAST(x AS DATE);
CREATE OR REPLACE MACRO @ntz_to_time(x) AS CAST(x AS TIME);
CREATE OR REPLACE MACRO @ntz_to_ltz(x) AS x AT TIME ZONE 'UTC';
CREATE OR REPLACE MACRO @ntz_to_tz(x) AS @tz(x, 0);
CREATE OR REPLACE MACRO @ltz_to_ntz(x) AS x AT TIME ZONE 'UTC';
CREATE OR REPLACE MACRO @ltz_to_date(x) AS CAST(x AT TIME ZONE 'UTC' AS DATE);
CREATE OR REPLACE MACRO @ltz_to_time(x) AS CAST(x AT TIME ZONE 'UTC' AS TIME);
CREATE OR REPLACE MACRO @ltz_to_tz(x) AS @tz(x AT TIME ZONE 'UTC', 0);
CREATE OR REPLACE MACRO @tz_to_ltz(x) AS struct_extract(x, 'utc') AT TIME ZONE 'UTC';
CREATE OR REPLACE MACRO @tz_to_date(x) AS CAST(@tz_to_ntz(x) AS DATE);
CREATE OR REPLACE MACRO @tz_to_time(x) AS CAST(@tz_to_ntz(x) AS TIME);
CREATE OR REPLACE MACRO @time_to_ntz(x) AS DATE '1970-01-01' + x;

-- Text into dates and times. A reading is struct(at, offset in minutes or NULL), NULL where nothing is recognized.
CREATE OR REPLACE MACRO @month_number(name) AS CAST(list_position(
    ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'], lower(left(name, 3))) AS VARCHAR);
CREATE OR REPLACE MACRO @full_year(digits) AS CASE WHEN digits >= '70' THEN '19' ELSE '20' END || digits;
CREATE OR REPLACE MACRO @full_hour(hour, half) AS
    CAST(CAST(hour AS INTEGER) % 12 + CASE WHEN lower(half) = 'pm' THEN 12 ELSE 0 END AS VARCHAR);
CREATE OR REPLACE MACRO @zone_minutes(zone) AS CASE
    WHEN zone = '' THEN NULL
    WHEN zone = 'Z' THEN 0
    ELSE CASE WHEN zone LIKE '-%' THEN -1 ELSE 1 END
        * (CAST(zone[2:3] AS INTEGER) * 60 + coalesce(TRY_CAST(right(zone, -3).replace(':', '') AS INTEGER), 0)) END;
CREATE OR REPLACE MACRO @two(digits) AS lpad(CASE WHEN digits = '' THEN '0' ELSE digits END, 2, '0');
CREATE OR REPLACE MACRO @reading(found, year, month, day, hour, minute, second, fraction, zone) AS CASE
    WHEN found = '' OR found IS NULL THEN NULL
    WHEN length(year) < 4 OR year = '0000' THEN error('unsupported|read a year of less than four digits')::STRUCT("at" TIMESTAMP, "offset" INTEGER)
    WHEN rtrim(fraction[7:], '0') <> ''
        THEN error('unsupported|keep more than six digits of a second')::STRUCT("at" TIMESTAMP, "offset" INTEGER)
    ELSE struct_pack(
        "at" := TRY_CAST(year || '-' || lpad(month, 2, '0') || '-' || lpad(day, 2, '0') || ' ' || @two(hour) || ':'
            || @two(minute) || ':' || @two(second) || '.' || rpad(fraction[:6], 6, '0') AS TIMESTAMP),
        "offset" := CAST(@zone_minutes(zone) AS INTEGER)) END;
-- The forms that Snowflake detects by itself: the rarer ones are put into the order of the first one, the month after a #.
-- https://docs.snowflake.com/en/sql-reference/date-time-input-output#supported-formats-for-auto-detection
CREATE OR REPLACE MACRO @iso_text(x) AS CASE
    WHEN x LIKE '____-%' OR x LIKE '%#%' THEN x
    WHEN x LIKE '%/%' THEN regexp_replace(x, '^(\d{1,2})/(\d{1,2})/(\d{1,4})( \d{1,2}:\d{1,2}:\d{1,2})?$', '\3-\1-\2\4')
    WHEN regexp_matches(x, '^\d') THEN regexp_replace(x, '^(\d{1,2})-([A-Za-z]+)-(\d{1,4})$', '\3-#\2-\1')
    WHEN x LIKE '___, %' THEN regexp_replace(x,
        '^(?i:mon|tue|wed|thu|fri|sat|sun), (\d{1,2}) ([A-Za-z]{3}) (\d{4}) (\d{1,2}:\d{1,2}:\d{1,2}(?:\.\d+)?(?: [+-]\d{4})?)$',
        '\3-#\2-\1 \4')
    ELSE regexp_replace(x, '^(?i:mon|tue|wed|thu|fri|sat|sun) ([A-Za-z]{3}) (\d{1,2}) (\d{1,2}:\d{1,2}:\d{1,2}) ([+-]\d{4}) (\d{4})$',
        '\5-#\1-\2 \3 \4') END;
CREATE OR REPLACE MACRO @instant(x) AS list_transform([regexp_extract(@iso_text(x),
    '^((\d{1,4})-(?:(\d{1,2})|#((?i:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:tember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)))-(\d{1,2})(?:[T ]([01]?\d|2[0-3])(?::([0-5]?\d)(?::([0-5]?\d)(?:\.(\d{0,9}))?)?(?: ?(Z|[+-]\d{2}:?\d{2}|[+-]\d{2}))?)?)?)$',
    ['found', 'year', 'month', 'named', 'day', 'hour', 'minute', 'second', 'fraction', 'zone'])],
    lambda sf_part: @reading(sf_part.found, sf_part.year, CASE WHEN sf_part.month = '' THEN @month_number(sf_part.named) ELSE sf_part.month END,
        sf_part.day, sf_part.hour, sf_part.minute, sf_part.second, sf_part.fraction, sf_part.zone))[1];
CREATE OR REPLACE MACRO @clock(x) AS list_transform([regexp_extract(x,
    '^(([01]?\d|2[0-3]):([0-5]?\d)(?::([0-5]?\d)(?:\.(\d{1,9}))?)?)$', ['found', 'hour', 'minute', 'second', 'fraction'])],
    lambda sf_part: @reading(sf_part.found, '1970', '1', '1', sf_part.hour, sf_part.minute, sf_part.second, sf_part.fraction, ''))[1];
-- Digits alone are seconds, milli-, micro- or nanoseconds, by their size: https://docs.snowflake.com/en/sql-reference/functions/to_timestamp
CREATE OR REPLACE MACRO @is_digits(x) AS regexp_matches(x, '^-?\d+$');
CREATE OR REPLACE MACRO @of_nanoseconds(n) AS CASE
    WHEN n % 1000 <> 0 THEN error('unsupported|keep more than six digits of a second')::BIGINT ELSE CAST(n // 1000 AS BIGINT) END;
CREATE OR REPLACE MACRO @known_seconds(n) AS CASE
    WHEN n BETWEEN -62135596800 AND 253402300799 THEN CAST(n AS BIGINT)
    ELSE error('unsupported|use years before 1 or after 9999')::BIGINT END;
CREATE OR REPLACE MACRO @digits_to_ntz(n) AS make_timestamp(CASE
    WHEN n < 31536000000 THEN @known_seconds(n) * 1000000
    WHEN n < 31536000000000 THEN n * 1000
    WHEN n < 31536000000000000 THEN n
    ELSE @of_nanoseconds(n) END);
-- Whether Snowflake minds a day of the week that is not that of the date is not documented.
CREATE OR REPLACE MACRO @on_weekday(r, name) AS list_transform([r], lambda sf_r: CASE
    WHEN lower(strftime(struct_extract(sf_r, 'at'), '%a')) <> lower(name)
        THEN error('unsupported|read a date with another day of the week')::STRUCT("at" TIMESTAMP, "offset" INTEGER)
    ELSE sf_r END)[1];
-- Most text is in the first form, which DuckDB reads alike.
CREATE OR REPLACE MACRO @found_instant(x) AS CASE
    WHEN regexp_matches(x, '^(\d{2}[1-9]\d|[1-9]\d{3})-\d\d-\d\d([ T]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?)?$')
        THEN struct_pack("at" := TRY_CAST(x AS TIMESTAMP), "offset" := NULL::INTEGER)
    WHEN @is_digits(x) THEN struct_pack("at" := @digits_to_ntz(TRY_CAST(x AS BIGINT)), "offset" := NULL::INTEGER)
    WHEN x <> trim(x) OR regexp_matches(x, '(?i)\d ?[ap]m\b|^-?\d*\.\d+$')
        THEN error('unsupported|read this text as a date or time')::STRUCT("at" TIMESTAMP, "offset" INTEGER)
    ELSE @on_weekday(@instant(x), CASE WHEN regexp_matches(x, '^[A-Za-z]') THEN left(x, 3) END) END;
-- Whether a timestamp may be a date in one of the rarer forms is not documented.
CREATE OR REPLACE MACRO @found_timestamp(x) AS CASE
    WHEN x NOT LIKE '____-%' AND regexp_matches(x, '^\d{1,2}(/\d{1,2}/|-[A-Za-z]+-)\d{1,4}$')
        THEN error('unsupported|read a timestamp without a time')::STRUCT("at" TIMESTAMP, "offset" INTEGER)
    ELSE @found_instant(x) END;
CREATE OR REPLACE MACRO @digits_of(fraction, digits) AS CASE
    WHEN length(fraction) > digits THEN error('unsupported|read more digits of a second than the format has') ELSE fraction END;
CREATE OR REPLACE MACRO @refused_text(x, number, what) AS
    CASE WHEN x IS NOT NULL THEN error(number || '|' || what || ' ''' || x || ''' is not recognized')::TIMESTAMP END;
CREATE OR REPLACE MACRO @reading_to_date(r) AS CAST(struct_extract(r, 'at') AS DATE);
CREATE OR REPLACE MACRO @reading_to_time(r) AS CAST(struct_extract(r, 'at') AS TIME);
CREATE OR REPLACE MACRO @reading_to_ntz(r) AS struct_extract(r, 'at');
CREATE OR REPLACE MACRO @reading_utc(r) AS struct_extract(r, 'at') - to_minutes(coalesce(struct_extract(r, 'offset'), 0));
CREATE OR REPLACE MACRO @reading_to_ltz(r) AS list_transform([r], lambda sf_one: @reading_utc(sf_one) AT TIME ZONE 'UTC')[1];
CREATE OR REPLACE MACRO @reading_to_tz(r) AS
    list_transform([r], lambda sf_one: @tz(@reading_utc(sf_one), coalesce(struct_extract(sf_one, 'offset'), 0)))[1];
-- A date has no use for a fraction of a second, however long.
CREATE OR REPLACE MACRO @try_text_to_date(x) AS list_transform(
    [CASE WHEN length(x) > 26 THEN regexp_replace(x, '(:\d\d\.\d{6})\d+', '\1') ELSE x END],
    lambda sf_cut: @reading_to_date(@found_instant(sf_cut)))[1];
CREATE OR REPLACE MACRO @try_text_to_ntz(x) AS @reading_to_ntz(@found_timestamp(x));
CREATE OR REPLACE MACRO @try_text_to_ltz(x) AS @reading_to_ltz(@found_timestamp(x));
CREATE OR REPLACE MACRO @try_text_to_tz(x) AS @reading_to_tz(@found_timestamp(x));
CREATE OR REPLACE MACRO @try_text_to_time(x) AS CAST(CASE
    WHEN @is_digits(x) THEN @digits_to_ntz(TRY_CAST(x AS BIGINT))
    WHEN x <> trim(x) OR regexp_matches(x, '^\d{4}-|[AaPp][Mm]$|\d[ +-]') THEN error('unsupported|read this text as a TIME')::TIMESTAMP
    ELSE @reading_to_ntz(@clock(x)) END AS TIME);
CREATE OR REPLACE MACRO @text_to_date(x) AS list_transform([x], lambda sf_one:
    coalesce(@try_text_to_date(sf_one), CAST(@refused_text(sf_one, '100040', 'Date') AS DATE)))[1];
CREATE OR REPLACE MACRO @text_to_time(x) AS list_transform([x], lambda sf_one:
    coalesce(@try_text_to_time(sf_one), CAST(@refused_text(sf_one, '100108', 'Time') AS TIME)))[1];
CREATE OR REPLACE MACRO @text_to_ntz(x) AS list_transform([x], lambda sf_one:
    coalesce(@try_text_to_ntz(sf_one), @refused_text(sf_one, '100035', 'Timestamp')))[1];
CREATE OR REPLACE MACRO @text_to_ltz(x) AS list_transform([x], lambda sf_one:
    coalesce(@try_text_to_ltz(sf_one), @refused_text(sf_one, '100035', 'Timestamp') AT TIME ZONE 'UTC'))[1];
CREATE OR REPLACE MACRO @text_to_tz(x) AS list_transform([x], lambda sf_one:
    coalesce(@try_text_to_tz(sf_one), @tz(@refused_text(sf_one, '100035', 'Timestamp'), 0)))[1];
CREATE OR REPLACE MACRO @format_refused(x, what, format) AS CASE WHEN x IS NOT NULL THEN
    error('100096|Can''t parse ''' || x || ''' as ' || what || ' with format ''' || format || '''') END;

-- Numbers are seconds since 1970, or what a scale says.
CREATE OR REPLACE MACRO @whole_micro(x) AS CASE
    WHEN x <> floor(x) THEN error('unsupported|keep more than six digits of a second')::BIGINT ELSE CAST(x AS BIGINT) END;
CREATE OR REPLACE MACRO @number_to_ntz(x) AS make_timestamp(
    @known_seconds(trunc(x)) * 1000000 + @whole_micro((x - trunc(x)) * 1000000));
CREATE OR REPLACE MACRO @number_to_ltz(x) AS @number_to_ntz(x) AT TIME ZONE 'UTC';
CREATE OR REPLACE MACRO @number_to_tz(x) AS @tz(@number_to_ntz(x), 0);
CREATE OR REPLACE MACRO @scaled_to_ntz(x, scale) AS make_timestamp(CASE
    WHEN abs(CAST(x AS HUGEINT)) // CAST(pow(10, scale) AS BIGINT) > 253402300799
        THEN error('unsupported|use years before 1 or after 9999')::BIGINT
    WHEN scale <= 6 THEN CAST(x AS BIGINT) * CAST(pow(10, 6 - scale) AS BIGINT)
    WHEN CAST(x AS BIGINT) % CAST(pow(10, scale - 6) AS BIGINT) <> 0 THEN error('unsupported|keep more than six digits of a second')::BIGINT
    ELSE CAST(x AS BIGINT) // CAST(pow(10, scale - 6) AS BIGINT) END);

-- What a VARIANT holds. Numbers that could be seconds or milliseconds are not known.
CREATE OR REPLACE MACRO @variant_date_text(x) AS CASE
    WHEN x IS NULL OR json_type(x) = 'NULL' THEN NULL
    WHEN json_type(x) = 'VARCHAR' THEN json_extract_string(x, '$')
    WHEN json_type(x) IN ('BIGINT', 'UBIGINT') AND length(CAST(x AS VARCHAR)) < 11 THEN CAST(x AS VARCHAR)
    ELSE error('unsupported|convert this VARIANT to a date or time') END;
CREATE OR REPLACE MACRO @variant_to_date(x) AS @text_to_date(@variant_date_text(x));
CREATE OR REPLACE MACRO @variant_to_time(x) AS @text_to_time(@variant_date_text(x));
CREATE OR REPLACE MACRO @variant_to_ntz(x) AS @text_to_ntz(@variant_date_text(x));
CREATE OR REPLACE MACRO @variant_to_ltz(x) AS @text_to_ltz(@variant_date_text(x));
CREATE OR REPLACE MACRO @variant_to_tz(x) AS @text_to_tz(@variant_date_text(x));

-- Sums. A month that is too short has its last day.
CREATE OR REPLACE MACRO @add_year(x, n) AS x + to_months(CAST(n * 12 AS INTEGER));
CREATE OR REPLACE MACRO @add_quarter(x, n) AS x + to_months(CAST(n * 3 AS INTEGER));
CREATE OR REPLACE MACRO @add_month(x, n) AS x + to_months(CAST(n AS INTEGER));
CREATE OR REPLACE MACRO @add_week(x, n) AS x + to_days(CAST(n * 7 AS INTEGER));
CREATE OR REPLACE MACRO @add_day(x, n) AS x + to_days(CAST(n AS INTEGER));
CREATE OR REPLACE MACRO @add_hour(x, n) AS x + to_hours(n);
CREATE OR REPLACE MACRO @add_minute(x, n) AS x + to_minutes(n);
CREATE OR REPLACE MACRO @add_second(x, n) AS x + to_microseconds(n * 1000000);
CREATE OR REPLACE MACRO @add_millisecond(x, n) AS x + to_microseconds(n * 1000);
CREATE OR REPLACE MACRO @add_microsecond(x, n) AS x + to_microseconds(n);
CREATE OR REPLACE MACRO @add_nanosecond(x, n) AS x + to_microseconds(@of_nanoseconds(n));
CREATE OR REPLACE MACRO @add_months(x, n) AS CASE
    WHEN CAST(x AS DATE) = last_day(x) THEN CAST(last_day(x + to_months(CAST(n AS INTEGER))) AS TIMESTAMP) + (x - date_trunc('day', x))
    ELSE x + to_months(CAST(n AS INTEGER)) END;

-- Parts, of a TIMESTAMP in its own time zone.
CREATE OR REPLACE MACRO @part_year(x) AS year(x);
CREATE OR REPLACE MACRO @part_quarter(x) AS quarter(x);
CREATE OR REPLACE MACRO @part_month(x) AS month(x);
CREATE OR REPLACE MACRO @part_week(x) AS weekofyear(x);
CREATE OR REPLACE MACRO @part_day(x) AS day(x);
CREATE OR REPLACE MACRO @part_hour(x) AS hour(x);
CREATE OR REPLACE MACRO @part_minute(x) AS minute(x);
CREATE OR REPLACE MACRO @part_second(x) AS second(x);
CREATE OR REPLACE MACRO @part_nanosecond(x) AS microsecond(x) % 1000000 * 1000;
CREATE OR REPLACE MACRO @part_dayofweek(x) AS dayofweek(x);
CREATE OR REPLACE MACRO @part_dayofweekiso(x) AS isodow(x);
CREATE OR REPLACE MACRO @part_dayofyear(x) AS dayofyear(x);
CREATE OR REPLACE MACRO @part_weekiso(x) AS weekofyear(x);
CREATE OR REPLACE MACRO @part_yearofweek(x) AS isoyear(x);
CREATE OR REPLACE MACRO @part_yearofweekiso(x) AS isoyear(x);
CREATE OR REPLACE MACRO @floored(a, b) AS (a - ((a % b) + b) % b) // b;
CREATE OR REPLACE MACRO @part_epoch_second(x) AS @floored(epoch_us(x), 1000000);
CREATE OR REPLACE MACRO @part_epoch_millisecond(x) AS @floored(epoch_us(x), 1000);
CREATE OR REPLACE MACRO @part_epoch_microsecond(x) AS epoch_us(x);
CREATE OR REPLACE MACRO @part_epoch_nanosecond(x) AS epoch_us(x) * 1000;
CREATE OR REPLACE MACRO @part_timezone_hour(minutes) AS CASE WHEN minutes % 60 = 0 THEN CAST(minutes // 60 AS BIGINT)
    WHEN minutes > 0 THEN CAST(minutes // 60 AS BIGINT)
    ELSE error('unsupported|take the hour of a negative offset with minutes')::BIGINT END;
CREATE OR REPLACE MACRO @part_timezone_minute(minutes) AS CASE WHEN minutes % 60 = 0 THEN 0::BIGINT
    WHEN minutes > 0 THEN CAST(minutes % 60 AS BIGINT)
    ELSE error('unsupported|take the minute of a negative offset')::BIGINT END;

-- Differences count the borders between two TIMESTAMPs.
CREATE OR REPLACE MACRO @diff_year(a, b) AS year(b) - year(a);
CREATE OR REPLACE MACRO @diff_quarter(a, b) AS (year(b) * 4 + quarter(b)) - (year(a) * 4 + quarter(a));
CREATE OR REPLACE MACRO @diff_month(a, b) AS (year(b) * 12 + month(b)) - (year(a) * 12 + month(a));
CREATE OR REPLACE MACRO @diff_day(a, b) AS CAST(CAST(b AS DATE) - CAST(a AS DATE) AS BIGINT);
CREATE OR REPLACE MACRO @diff_week(a, b) AS @diff_day(date_trunc('week', a), date_trunc('week', b)) // 7;
CREATE OR REPLACE MACRO @diff_hour(a, b) AS @floored(epoch_us(b), 3600000000) - @floored(epoch_us(a), 3600000000);
CREATE OR REPLACE MACRO @diff_minute(a, b) AS @floored(epoch_us(b), 60000000) - @floored(epoch_us(a), 60000000);
CREATE OR REPLACE MACRO @diff_second(a, b) AS @floored(epoch_us(b), 1000000) - @floored(epoch_us(a), 1000000);
CREATE OR REPLACE MACRO @diff_millisecond(a, b) AS @floored(epoch_us(b), 1000) - @floored(epoch_us(a), 1000);
CREATE OR REPLACE MACRO @diff_microsecond(a, b) AS epoch_us(b) - epoch_us(a);
CREATE OR REPLACE MACRO @diff_nanosecond(a, b) AS (epoch_us(b) - epoch_us(a)) * 1000;
CREATE OR REPLACE MACRO @month_fraction(a, b) AS CASE
    WHEN day(a) = day(b) OR (CAST(a AS DATE) = last_day(a) AND CAST(b AS DATE) = last_day(b)) THEN
        CASE WHEN CAST(a AS TIME) = CAST(b AS TIME) THEN 0::HUGEINT
        ELSE error('unsupported|count months between two times of the same day of the month')::HUGEINT END
    ELSE CAST((day(a) - day(b)) * 86400000000 + epoch_us(CAST(a AS TIME)) - epoch_us(CAST(b AS TIME)) AS HUGEINT) END;
CREATE OR REPLACE MACRO @months_between(a, b) AS CAST(@diff_month(b, a) AS DECIMAL(18, 6)) + CAST('0.000001' AS DECIMAL(7, 6)) * CAST(
    sign(@month_fraction(a, b)) * ((abs(@month_fraction(a, b)) * 2000000 + 2678400000000) // 5356800000000) AS BIGINT);

-- Truncated.
CREATE OR REPLACE MACRO @trunc_year(x) AS date_trunc('year', x);
CREATE OR REPLACE MACRO @trunc_quarter(x) AS date_trunc('quarter', x);
CREATE OR REPLACE MACRO @trunc_month(x) AS date_trunc('month', x);
CREATE OR REPLACE MACRO @trunc_week(x) AS date_trunc('week', x);
CREATE OR REPLACE MACRO @trunc_day(x) AS date_trunc('day', x);
CREATE OR REPLACE MACRO @trunc_hour(x) AS date_trunc('hour', x);
CREATE OR REPLACE MACRO @trunc_minute(x) AS date_trunc('minute', x);
CREATE OR REPLACE MACRO @trunc_second(x) AS date_trunc('second', x);
CREATE OR REPLACE MACRO @trunc_millisecond(x) AS date_trunc('millisecond', x);
CREATE OR REPLACE MACRO @trunc_microsecond(x) AS x;
CREATE OR REPLACE MACRO @trunc_nanosecond(x) AS x;
CREATE OR REPLACE MACRO @last_year(x) AS CAST(date_trunc('year', x) + to_months(12) - to_days(1) AS DATE);
CREATE OR REPLACE MACRO @last_quarter(x) AS CAST(date_trunc('quarter', x) + to_months(3) - to_days(1) AS DATE);
CREATE OR REPLACE MACRO @last_month(x) AS last_day(x);
CREATE OR REPLACE MACRO @last_week(x) AS CAST(date_trunc('week', x) + to_days(6) AS DATE);
CREATE OR REPLACE MACRO @last_day(x) AS x;
CREATE OR REPLACE MACRO @weekday_number(name) AS CASE
    WHEN name IS NULL THEN NULL
    ELSE coalesce(list_position(['mo', 'tu', 'we', 'th', 'fr', 'sa', 'su'], lower(left(name, 2))),
        error('unsupported|read this day of the week')::INTEGER) END;
CREATE OR REPLACE MACRO @next_day(x, name) AS x + CAST((@weekday_number(name) - isodow(x) + 6) % 7 + 1 AS INTEGER);
CREATE OR REPLACE MACRO @previous_day(x, name) AS x - CAST((isodow(x) - @weekday_number(name) + 6) % 7 + 1 AS INTEGER);

-- Slices, counted from 1970; weeks begin on Monday: the start of the slice, `more` slices later.
CREATE OR REPLACE MACRO @is_end(side) AS CASE
    WHEN upper(side) = 'START' THEN 0 WHEN upper(side) = 'END' THEN 1
    ELSE error('unsupported|take this side of a slice')::INTEGER END;
CREATE OR REPLACE MACRO @slice_number(a, n, side) AS CASE
    WHEN n < 1 THEN error('unsupported|take slices of this length')::BIGINT
    ELSE (@floored(a, n) + @is_end(side)) * n END;
CREATE OR REPLACE MACRO @slice_months(x, n, side) AS TIMESTAMP '1970-01-01'
    + to_months(CAST(@slice_number((year(x) - 1970) * 12 + month(x) - 1, n, side) AS INTEGER));
CREATE OR REPLACE MACRO @slice_days(x, first, n, side) AS
    CAST(first AS TIMESTAMP) + to_days(CAST(@slice_number(CAST(CAST(x AS DATE) - first AS BIGINT), n, side) AS INTEGER));
CREATE OR REPLACE MACRO @slice_year(x, n, side) AS @slice_months(x, n * 12, side);
CREATE OR REPLACE MACRO @slice_quarter(x, n, side) AS @slice_months(x, n * 3, side);
CREATE OR REPLACE MACRO @slice_month(x, n, side) AS @slice_months(x, n, side);
CREATE OR REPLACE MACRO @slice_week(x, n, side) AS @slice_days(x, DATE '1969-12-29', n * 7, side);
CREATE OR REPLACE MACRO @slice_day(x, n, side) AS @slice_days(x, DATE '1970-01-01', n, side);
CREATE OR REPLACE MACRO @slice_hour(x, n, side) AS make_timestamp(@slice_number(epoch_us(x), n * 3600000000, side));
CREATE OR REPLACE MACRO @slice_minute(x, n, side) AS make_timestamp(@slice_number(epoch_us(x), n * 60000000, side));
CREATE OR REPLACE MACRO @slice_second(x, n, side) AS make_timestamp(@slice_number(epoch_us(x), n * 1000000, side));

-- Of their parts; a part beyond its range moves the others.
CREATE OR REPLACE MACRO @date_of(y, m, d) AS CAST(make_date(y, 1, 1) + to_months(CAST(m - 1 AS INTEGER)) + to_days(CAST(d - 1 AS INTEGER)) AS DATE);
CREATE OR REPLACE MACRO @microseconds_of(h, m, s, ns) AS h * 3600000000 + m * 60000000 + s * 1000000 + @of_nanoseconds(ns);
CREATE OR REPLACE MACRO @time_of(h, m, s, ns) AS CAST(make_timestamp(@microseconds_of(h, m, s, ns)) AS TIME);
CREATE OR REPLACE MACRO @ntz_of(y, mo, d, h, m, s, ns) AS CAST(@date_of(y, mo, d) AS TIMESTAMP) + to_microseconds(@microseconds_of(h, m, s, ns));

-- Time zones.
CREATE OR REPLACE MACRO @zone(name) AS CASE
    WHEN name IN ('UTC', 'GMT') OR regexp_matches(name, '^[A-Z][A-Za-z]+(/[A-Z][A-Za-z_-]+)+$') OR name IS NULL THEN name
    ELSE error('unsupported|use the time zone ' || name) END;
CREATE OR REPLACE MACRO @at_zone(moment, name) AS timezone(@zone(name), moment AT TIME ZONE 'UTC');
-- An offset with seconds, as before 1900, has no place in a TIMESTAMP_TZ.
CREATE OR REPLACE MACRO @minutes_between(a, b) AS CASE
    WHEN (epoch_us(b) - epoch_us(a)) % 60000000 <> 0 THEN error('unsupported|use an offset with seconds')::BIGINT
    ELSE (epoch_us(b) - epoch_us(a)) // 60000000 END;
CREATE OR REPLACE MACRO @tz_at_zone(x, name) AS @tz(struct_extract(x, 'utc'),
    @minutes_between(struct_extract(x, 'utc'), @at_zone(struct_extract(x, 'utc'), name)));
-- An hour that a clock skips or shows twice is no instant that a page names.
CREATE OR REPLACE MACRO @one_instant(moment, name, x) AS CASE
    WHEN timezone(name, moment) <> x OR timezone(name, moment - INTERVAL 1 HOUR) = x OR timezone(name, moment + INTERVAL 1 HOUR) = x
        THEN error('unsupported|convert an hour in which the clock changes')::TIMESTAMP WITH TIME ZONE
    ELSE moment END;
CREATE OR REPLACE MACRO @between_zones(source, target, x) AS
    timezone(@zone(target), @one_instant(timezone(@zone(source), x), @zone(source), x));
-- The one place that asks for the time: a test of a table puts a constant here.
CREATE OR REPLACE MACRO @now() AS now();
CREATE OR REPLACE MACRO @now_ltz(digits) AS
    make_timestamptz(epoch_us(@now()) - epoch_us(@now()) % CAST(pow(10, 6 - least(digits, 6)) AS BIGINT));
