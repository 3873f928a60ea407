"""The messages about failed runs, within Slack's limits for any input. Pure: `alerts.blocks` makes their parts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

from run_elt_dagster.alerts.blocks import (
    BLOCKS_LIMIT,
    CONTEXT_LIMIT,
    HEADER_LIMIT,
    NAMES_SHOWN,
    SECTION_LIMIT,
    SHORT_LIMIT,
    TEXT_LIMIT,
    Block,
    Message,
    Style,
    button,
    code_text,
    cut,
    date_text,
    escape,
    in_brackets,
    incident_buttons,
    mentions,
    name_text,
    names_text,
    place,
    plain_message,
    run_link,
    run_url,
    say,
    section,
    size,
    units,
)
from run_elt_dagster.alerts.causes import Group, State, causes_of, groups_of, headline, run_cause_of, title_of
from run_elt_dagster.alerts.failure import FailedCheck, FailedTable, RunFailure, Stage
from run_elt_dagster.alerts.runbook import PATH, Entry, entries_of
from run_elt_dagster.model.counted import counted
from run_elt_dagster.redaction import excerpt

# https://docs.slack.dev/reference/block-kit/block-elements/button-element
URL_LIMIT = 3000
COMMAND_LIMIT = 600
PARTITIONS_SHOWN = 10
CHECKS_SHOWN, PRODUCTIONS_SHOWN, CANDIDATES_SHOWN, ENTRIES_SHOWN = 5, 3, 3, 3
# How much of each line of a list, and whether with links; less where the whole is too long for Slack.
LISTED = ((300, True), (150, True), (80, True), (80, False), (40, False))
# How much of the causes, and how many groups of tables that failed alike; less where the whole is too long for Slack.
SHOWN = ((2400, 8), (1200, 8), (600, 6), (200, 4), (0, 2), (0, 1))

_NEXT_STEPS: Mapping[Stage, str] = {
    "connect": "Check that Snowflake is up, and the account, the role and the sign-in in the SNOWFLAKE_ variables.",
    "build": "Look the query up in Snowflake's history, correct the SQL or the grants, then materialize the table again.",
    "audit": "Look at the rejected rows in the candidate, correct the SQL or the source, then materialize the table again.",
    "publish": "Check the grants on the published table and what stands under its name, then materialize it again.",
    "clean-up": "Drop the candidate by hand; readers are not affected.",
    "outside our code": "Open the run's log, remove the cause, then materialize the tables again.",
}
_NEXT_STEP_OF_CHECKS = (
    "If readers must not see these rows, roll back with `run-elt rollback`. Correct the SQL or the source, then materialize "
    "the table."
)


def failure_message(
    failure: RunFailure,
    *,
    style: Style,
    count: int = 1,
    state: State = "open",
) -> Message:
    """Return the alert about a failed run.

    Args:
        failure: What failed.
        style: Links, mentions and secrets.
        count: How many runs in a row failed alike.
        state: Whether the tables are published again; the message then turns green.
    """
    groups = groups_of(failure, style)
    details = _details(failure, groups, style)
    made = (
        tuple(
            _blocks(
                failure,
                style,
                groups[:most],
                details=excerpt(details, limit=limit) if limit else "",
                count=count,
                state=state,
            )
        )
        for limit, most in SHOWN
    )
    blocks = next((blocks for blocks in made if size(blocks) <= BLOCKS_LIMIT), ())
    lines = [
        f"*{escape(cut(title_of(failure, groups, state, style), 600))}*",
        _repeats(failure, count),
        _tables_line(failure, style) if len(failure.tables) > 1 or not failure.is_of_tables else "",
        # Said once if it holds for several.
        *_productions(failure.tables, style),
        mentions(failure.owners, style) if state == "open" else "",
        _place_and_run(failure, style),
    ]
    return Message(text=cut("\n".join(line for line in lines if line), TEXT_LIMIT), blocks=blocks)


def repeat_message(failure: RunFailure, *, style: Style, count: int) -> Message:
    """Return the reply in the thread of the first alert, when a run failed alike again."""
    cause = causes_of(groups_of(failure, style), failure, style)
    lines = [
        f":repeat: {_again(failure, count)}{f': {escape(cut(cause, 400))}' if cause else '.'}",
        *(
            f"{name_text(each.name, style)} · {line}"
            for each in failure.tables
            if (line := _partitions_line(each, style))
        ),
        *_productions(failure.tables, style),
        f"{_place_and_run(failure, style)} · launched by {_launched(failure, style)} · {date_text(failure.failed_at)}",
    ]
    return plain_message("\n".join(lines))


def _again(failure: RunFailure, count: int) -> str:
    if failure.backfill:
        return f"Another run of the backfill failed, {count:,} by now"
    return f"Failed the same way again, {count:,} times by now"


def repeats_message(failure: RunFailure, run_ids: Sequence[str], *, style: Style, count: int) -> Message:
    """Return the reply in the thread of the first alert, when many runs failed alike again: one for all of them.

    Args:
        failure: What failed in one of them.
        run_ids: All of them.
        style: Links and secrets.
        count: How many runs failed alike by now.
    """
    links = ", ".join(run_link(run_id, style) for run_id in run_ids[:NAMES_SHOWN])
    more = len(run_ids) - NAMES_SHOWN
    how = "of the backfill failed" if failure.backfill else "failed the same way"
    text = f":repeat: {counted(len(run_ids), 'more runs', 'more run')} {how}, {count:,} by now, the last one {date_text(failure.failed_at)}"
    cause = causes_of(groups_of(failure, style), failure, style)
    listed = f"{text}: {links}{f' and {more:,} more' if more > 0 else ''}."
    return plain_message("\n".join(filter(None, [listed, escape(cut(cause, 400)), in_brackets(style).strip()])))


def list_message(incidents: Sequence[Sequence[RunFailure]], unknown: Sequence[str], *, style: Style) -> Message:
    """Return one message about runs that failed of many causes at once.

    Args:
        incidents: The runs that failed alike, the newest first; the incident of the newest first.
        unknown: The ids of runs that cannot be described.
        style: Links, mentions and secrets.
    """
    newest = [failures[0] for failures in incidents]
    runs = sum(map(len, incidents)) + len(unknown)
    title = f"🔴 {counted(runs, 'more runs', 'more run')} failed, of {counted(len(incidents) + len(unknown), 'causes')}"
    owners = [owner for failure in newest for owner in failure.owners]
    lead = "\n".join(filter(None, [mentions(owners, style), place(style)]))
    heading = [f"*{title}*", *([lead] if lead else [])]
    made = (
        tuple(_list_blocks(title, lead, _list_lines(incidents, unknown, style, limit=limit, has_links=has_links)))
        for limit, has_links in LISTED
    )
    blocks = next((blocks for blocks in made if size(blocks) <= BLOCKS_LIMIT), ())
    return Message(
        text=cut("\n".join([*heading, *_list_lines(incidents, unknown, style, limit=150, has_links=True)]), TEXT_LIMIT),
        blocks=blocks,
    )


def _list_lines(
    incidents: Sequence[Sequence[RunFailure]], unknown: Sequence[str], style: Style, *, limit: int, has_links: bool
) -> list[str]:
    style_of_runs = style if has_links else replace(style, webserver_url=None)
    lines = [
        f"• {escape(cut(headline(failure, groups_of(failure, style), style), limit))}"
        f" · {run_link(failure.run_id, style_of_runs)}{f' and {len(others):,} more runs' if others else ''}"
        for failure, *others in incidents
    ]
    return [*lines, *(f"• {run_link(run, style_of_runs)}: its events cannot be read" for run in unknown)]


def _list_blocks(title: str, lead: str, lines: Sequence[str]) -> Iterator[Block]:
    yield {"type": "header", "text": {"type": "plain_text", "text": title, "emoji": True}}
    if lead:
        yield section(lead)
    part = ""
    for line in lines:
        if part and units(part) + units(line) + 1 > SECTION_LIMIT - 100:
            yield section(part)
            part = ""
        part = f"{part}\n{line}" if part else line
    yield section(f"{part}\n*Next:* Open a run for what readers see and what to do.")


def recovery_message(failure: RunFailure, *, style: Style) -> Message:
    """Return the reply in the thread of the first alert, when every table is published again."""
    names = names_text([table.name for table in failure.tables], style)
    return plain_message(
        f":large_green_circle: Published again: {names or 'all tables of the run'}.{in_brackets(style)}"
    )


def lost_message(run_id: str, *, style: Style) -> Message:
    """Return the alert for a run that cannot be described, so it alerts all the same."""
    return plain_message(
        f":red_circle: {run_link(run_id, style)} failed, and its events cannot be read. Open the run.{in_brackets(style)}"
    )


def trial_message(*, style: Style) -> Message:
    """Return what `run-elt alert --test` posts."""
    where = f" Its links lead to {escape(style.webserver_url)}." if style.webserver_url else ""
    return plain_message(
        f":white_check_mark: A test of run_elt_dagster: failed runs will be reported here.{where}{in_brackets(style)}"
    )


def _blocks(
    failure: RunFailure, style: Style, groups: Sequence[Group], *, details: str, count: int, state: State
) -> Iterator[Block]:
    title = cut(title_of(failure, groups, state, style), HEADER_LIMIT)
    yield {"type": "header", "text": {"type": "plain_text", "text": title, "emoji": True}}
    lead = [_repeats(failure, count), mentions(failure.owners, style) if state == "open" else ""]
    if any(lead):
        yield section("\n".join(filter(None, lead)))
    is_only = len(groups) == 1
    for group in groups:
        yield section(
            _group_text(group, style, says_cause=not is_only, says_names=_says_names(failure, is_only=is_only))
        )
    rest = failure.tables[sum(len(group.tables) for group in groups) :]
    if rest:
        yield section(f"*and {names_text([table.name for table in rest], style)}*")
    if failure.skipped:
        yield section(f"*Not refreshed, since they read it:* {names_text(failure.skipped, style)}")
    if failure.held_back:
        yield section(f"*Held back with their group:* {names_text(failure.held_back, style)}")
    if failure.ended_groups:
        yield section("\n".join(f"*Group:* {say(words, style, 400)}" for words in failure.ended_groups))
    if details:
        yield {
            "type": "rich_text",
            # Plain by construction: no mention in an error notifies a person, and no backtick ends it.
            "elements": [{"type": "rich_text_preformatted", "elements": [{"type": "text", "text": details}]}],
        }
    if state == "open":
        yield section("\n".join(_next_steps(failure, style)))
    yield {"type": "context", "elements": [{"type": "mrkdwn", "text": cut(_context(failure, style), CONTEXT_LIMIT)}]}
    if buttons := [*_buttons(failure, style, state)]:
        yield {"type": "actions", "elements": buttons}


def _details(failure: RunFailure, groups: Sequence[Group], style: Style) -> str:
    """Return what the causes say besides what the title and the tables say, each once; empty if nothing."""
    title = cut(title_of(failure, groups, "open", style), HEADER_LIMIT)
    if run_cause := run_cause_of(failure, style):
        return "" if run_cause in title else run_cause
    if len(groups) == 1:
        return "" if groups[0].cause in title else groups[0].cause
    more = [group for group in groups if group.cause != cut(group.short, SHORT_LIMIT)]
    return "\n".join(f"{', '.join(group.names[:NAMES_SHOWN])}: {group.cause}" for group in more if group.cause)


def _says_names(failure: RunFailure, *, is_only: bool) -> bool:
    return len(failure.tables) > 1 or not is_only or not failure.is_of_tables


def _group_text(group: Group, style: Style, *, says_cause: bool, says_names: bool) -> str:
    table = group.first
    query = f" · query `{code_text(table.query_id, style)}`" if table.query_id else ""
    parts = [f"*{names_text(group.names, style)}*"] if says_names else []
    parts.append(f"*Stage:* {table.stage if table.was_built else f'{table.stage}, as published'}{query}")
    if line := _partitions_line(table, style):
        parts.append(line)
    # A check's numbers are counts that this project measured, not values of rows.
    parts += [_check_line(check, style) for check in table.checks[:CHECKS_SHOWN]]
    if len(table.checks) > CHECKS_SHOWN:
        parts.append(f"and {len(table.checks) - CHECKS_SHOWN} more checks")
    if says_cause and group.cause:
        parts.append(f"*Cause:* {say(group.short, style, SHORT_LIMIT)}")
    if places := [place for each in group.tables[:CANDIDATES_SHOWN] if (place := each.where)]:
        parts.append(f"*In the file:* {', '.join(f'`{code_text(place, style)}`' for place in places)}")
    parts += _productions(group.tables, style)
    rejected = [each.candidate for each in group.tables[:CANDIDATES_SHOWN] if each.candidate and each.stage == "audit"]
    if rejected:
        parts.append(f"*Rejected rows:* {', '.join(f'`{code_text(name, style)}`' for name in rejected)}")
    return "\n".join(parts)


def _partitions_line(table: FailedTable, style: Style) -> str:
    """Return which partitions were not published, and whether others of the run were; empty of a table that is built whole."""
    if not table.partitions:
        return ""
    keys = [f"`{code_text(key, style)}`" for key in table.partitions[:PARTITIONS_SHOWN]]
    more = len(table.partitions) - len(keys)
    others = table.partitions_published
    published = f" · {others:,} other{'s' if others > 1 else ''} of the run published" if others else ""
    return f"*Partitions:* {', '.join(keys)}{f' and {more:,} more' if more else ''}{published}"


def _check_line(check: FailedCheck, style: Style) -> str:
    return f"*Check* `{code_text(check.name, style)}`*:* got {say(check.got, style, 200)}, expected {say(check.expected, style, 200)}"


def _productions(tables: Sequence[FailedTable], style: Style) -> list[str]:
    """Return what readers see, each sentence once, with the table if it differs."""
    words: dict[str, list[str]] = {}
    for table in tables:
        if table.production:
            words.setdefault(table.production, []).append(table.name)
    lines = [
        f"*Production{'' if len(words) == 1 else f', {name_text(names[0], style)}' + (f' and {len(names) - 1:,} more' if names[1:] else '')}:* "
        f"{say(text, style, 400)}"
        for text, names in list(words.items())[:PRODUCTIONS_SHOWN]
    ]
    more = sum(len(names) for names in list(words.values())[PRODUCTIONS_SHOWN:])
    return [*lines, f"*Production* of {more:,} more: open the run"] if more else lines


def _tables_line(failure: RunFailure, style: Style) -> str:
    return f"*Tables:* {names_text([table.name for table in failure.tables], style)}" if failure.tables else ""


def _next_steps(failure: RunFailure, style: Style) -> Iterator[str]:
    """Yield one next step for each stage, with the place of its causes in the runbook."""
    stages: list[Stage] = list(dict.fromkeys(table.stage for table in failure.tables)) or [failure.stage]
    for stage in stages:
        is_of_checks = all(not table.was_built for table in failure.tables if table.stage == stage) and stage == "audit"
        step = _NEXT_STEP_OF_CHECKS if is_of_checks else _NEXT_STEPS[stage]
        links = ", ".join(_runbook_link(entry, style) for entry in entries_of(failure, stage)[:ENTRIES_SHOWN])
        yield f"*Next{'' if len(stages) == 1 else f' ({stage})'}:* {step} Runbook: {links}."
    if wanted := [table.if_wanted for table in failure.tables if table.if_wanted]:
        more = f", and {len(wanted) - 1:,} more so" if wanted[1:] else ""
        # A command that is cut would be another one.
        command = say(wanted[0], style, COMMAND_LIMIT).replace("`", "'")
        yield f"*If the change is wanted:* `{command}`{more}"


def _runbook_link(entry: Entry, style: Style) -> str:
    if style.runbook_url:
        return f"<{style.runbook_url}#{entry.anchor}|{entry.title}>"
    return f"{PATH}#{entry.anchor} ({entry.title})"


def _repeats(failure: RunFailure, count: int) -> str:
    if count < 2:  # noqa: PLR2004 - the first one
        return ""
    return (
        f"*{counted(count, 'runs')} of the backfill failed.*"
        if failure.backfill
        else f"*Failed the same way {count:,} times.*"
    )


def _context(failure: RunFailure, style: Style) -> str:
    return " · ".join(
        [
            _place_and_run(failure, style),
            f"job {name_text(failure.job, style)}",
            f"launched by {_launched(failure, style)}",
            date_text(failure.failed_at),
        ]
    )


def _place_and_run(failure: RunFailure, style: Style) -> str:
    return " · ".join(filter(None, [place(style), f"run {run_link(failure.run_id, style)}"]))


def _launched(failure: RunFailure, style: Style) -> str:
    return f"{failure.trigger} {name_text(failure.trigger_name, style)}".strip()


def _buttons(failure: RunFailure, style: Style, state: State) -> Iterator[Block]:
    if style.webserver_url:
        yield button("Open the run", run_url(failure.run_id, style), "run")
    for table in failure.tables[:1] if style.webserver_url else ():
        path = "/".join(quote(part.encode("utf-8", "replace"), safe="") for part in table.name.split("."))
        url = f"{style.webserver_url}/assets/{path}"
        if len(url) <= URL_LIMIT:
            yield button("Open the asset", url, "asset")
    if style.has_buttons and state == "open" and failure.tables:
        yield from incident_buttons(failure.run_id)
