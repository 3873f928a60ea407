/* elt
description: Sessions and distinct users of every channel on every day (UTC). A run builds the days it is asked for.
owner: team:analytics
business_owner: Marketing
partitions: {by: day, column: day, start: 2019-05-01, end: 2019-12-01}
primary_key: [day, channel]
tags: {domain: marketing}
elt */
select
    session_summary.ts::date as day,
    session_summary.channel,
    count(*) as sessions,
    count(distinct session_summary.userid) as unique_users
from analytics.session_summary
group by 1, 2
