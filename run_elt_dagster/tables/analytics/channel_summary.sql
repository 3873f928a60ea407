/* elt
description: Sessions and distinct users of every channel in every calendar month (UTC).
owner: team:analytics
business_owner: Marketing
primary_key: [month, channel]
tags: {domain: marketing}
# Nobody reads it at night: a failure waits for whoever looks at the channel, and a third one in a row calls its owner.
alerts: {severity: notify, page_after: 3 failures}
checks:
  # A month that is over stays as it is: only late sessions change its numbers.
  changes: {max_removed: 0, max_changed: 20%}
elt */
select
    to_varchar(session_summary.ts, 'YYYY-MM') as month,
    session_summary.channel,
    count(*) as sessions,
    count(distinct session_summary.userid) as unique_users
from analytics.session_summary
group by 1, 2
