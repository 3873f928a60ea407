/* elt
description: Sessions and distinct users of every channel on every day (UTC). A run builds the days it is asked for.
owner: team:analytics
business_owner: Marketing
partitions: {by: day, column: day, start: 2019-05-01, end: 2019-12-01, max_per_run: 31}
primary_key: [day, channel]
columns: {day: date, channel: text, sessions: int, unique_users: int}
tags: {domain: marketing}
elt */
select
    session_timestamp.ts::date as day,
    user_session_channel.channel,
    count(*) as sessions,
    count(distinct user_session_channel.userid) as unique_users
from raw_data.session_timestamp
inner join raw_data.user_session_channel
    on session_timestamp.sessionid = user_session_channel.sessionid
group by 1, 2
