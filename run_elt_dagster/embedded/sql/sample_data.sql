-- The sessions of a made-up website's users from May to November 2019, the earliest first.
-- Hashes stand where others take a random number generator, so every machine makes the same rows. The numbers of users per
-- month and of sessions per channel are fixed; tests and examples count on them.
CREATE TEMP TABLE embedded_sample AS
WITH channels AS (
    SELECT channel, number, sum(number) OVER (ORDER BY channel) AS last_place
    FROM (VALUES
        ('Facebook', 16791), ('Google', 16982), ('Instagram', 16831), ('Naver', 16921), ('Organic', 16904), ('Youtube', 17091)
    ) AS channels (channel, number)
),
-- How many users have a session in a month, and how many of them have none before.
months AS (
    SELECT
        begins, users, new_users, begins + INTERVAL 1 MONTH AS ends, strftime(begins, '%Y-%m') AS name,
        sum(new_users) OVER (ORDER BY begins) AS known,
        (SELECT sum(number) FROM channels) AS total
    FROM (VALUES
        (TIMESTAMP '2019-05-01', 281, 281),
        (TIMESTAMP '2019-06-01', 459, 197),
        (TIMESTAMP '2019-07-01', 623, 211),
        (TIMESTAMP '2019-08-01', 662, 84),
        (TIMESTAMP '2019-09-01', 639, 17),
        (TIMESTAMP '2019-10-01', 763, 150),
        (TIMESTAMP '2019-11-01', 721, 9)
    ) AS months (begins, users, new_users)
),
-- The sessions of all channels, divided among the months in proportion to their users: the largest remainders get one more.
month_shares AS (
    SELECT *, total * users // sum(users) OVER () AS whole, total * users % sum(users) OVER () AS remainder FROM months
),
sized_months AS (
    SELECT * EXCLUDE (whole, remainder),
        whole + (row_number() OVER (ORDER BY remainder DESC, name) <= total - sum(whole) OVER ())::INT AS sessions
    FROM month_shares
),
-- The users of a month: the new ones, and some of those who came before. The rest of the sessions goes to the busiest.
active AS (
    SELECT *, 1 + (('0x' || md5('act:' || user_id))::UHUGEINT % 40)::BIGINT AS activity, sessions - users AS more
    FROM sized_months, range(1, 950) AS everybody (user_id)
    WHERE user_id <= known
    QUALIFY user_id > known - new_users OR row_number() OVER (
        PARTITION BY name, user_id <= known - new_users ORDER BY md5('stay:' || name || ':' || user_id)
    ) <= users - new_users
),
user_shares AS (
    SELECT *,
        more * activity // sum(activity) OVER (PARTITION BY name) AS whole,
        more * activity % sum(activity) OVER (PARTITION BY name) AS remainder
    FROM active
),
visitors AS (
    SELECT *, whole + (
        row_number() OVER (PARTITION BY name ORDER BY remainder DESC, user_id) <= more - sum(whole) OVER (PARTITION BY name)
    )::INT AS others
    FROM user_shares
),
visits AS (
    SELECT begins, ends, user_id, name || ':' || user_id || ':' || number AS visit,
        row_number() OVER (PARTITION BY name ORDER BY user_id, number) AS place,
        count(*) OVER (PARTITION BY name) AS last_place
    FROM visitors, range(others::BIGINT + 1) AS numbers (number)
),
-- Every month begins and ends with a session, to the millisecond: a slip of the time zone moves a user into another month.
timed AS (
    SELECT user_id, md5('demo:' || visit) AS session_id,
        CASE place
            WHEN 1 THEN begins
            WHEN last_place THEN ends - INTERVAL 1 MILLISECOND
            ELSE begins + to_milliseconds((
                ('0x' || md5('ts:' || visit))::UHUGEINT % datediff('millisecond', begins, ends)::UHUGEINT
            )::BIGINT)
        END AS started_at
    FROM visits
),
shuffled AS (SELECT *, row_number() OVER (ORDER BY md5('ch:' || session_id)) AS place FROM timed)
SELECT user_id, session_id, channel, started_at
FROM shuffled
JOIN channels ON place > last_place - number AND place <= last_place
ORDER BY started_at, user_id, session_id;

CREATE TABLE {schema}.USER_SESSION_CHANNEL (USERID BIGINT, SESSIONID VARCHAR, CHANNEL VARCHAR);
INSERT INTO {schema}.USER_SESSION_CHANNEL SELECT user_id, session_id, channel FROM embedded_sample;

CREATE TABLE {schema}.SESSION_TIMESTAMP (SESSIONID VARCHAR, TS TIMESTAMP);
INSERT INTO {schema}.SESSION_TIMESTAMP SELECT session_id, started_at FROM embedded_sample;

DROP TABLE embedded_sample;
