/* elt
description: Every session once, with who had it, the channel it came through and when it began (UTC).
owner: team:analytics
business_owner: Growth
primary_key: [sessionid]
tags: {domain: product}
elt */
select
    user_session_channel.sessionid,
    user_session_channel.userid,
    user_session_channel.channel,
    session_timestamp.ts
from raw_data.user_session_channel
inner join raw_data.session_timestamp
    on user_session_channel.sessionid = session_timestamp.sessionid
