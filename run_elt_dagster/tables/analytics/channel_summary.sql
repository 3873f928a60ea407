/* elt
description: Sessions and distinct users of every channel in every calendar month (UTC).
owner: team:analytics
business_owner: Marketing
primary_key: [month, channel]
tags: {domain: marketing}
elt */
select
    to_varchar(session_summary.ts, 'YYYY-MM') as month,
    session_summary.channel,
    count(*) as sessions,
    count(distinct session_summary.userid) as unique_users
from analytics.session_summary
group by 1, 2
