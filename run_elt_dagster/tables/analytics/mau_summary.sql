/* elt
description: >-
  Monthly active users. One row per calendar month (UTC) with the number of distinct users who had a session in it.
owner: team:analytics
business_owner: Growth
primary_key: [month]
tags: {domain: product}
publish: clone
fresh_within: 26h
checks:
  row_count: {min: 1}
elt */
select
    to_varchar(session_timestamp.ts, 'YYYY-MM') as month,
    count(distinct user_session_channel.userid) as mau
from raw_data.session_timestamp
inner join raw_data.user_session_channel
    on session_timestamp.sessionid = user_session_channel.sessionid
group by 1
