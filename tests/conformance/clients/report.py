"""The outcome of the clients' runs as a table."""

import re

from . import job


def count(results):
    """(passed, failed); what fails without the proxy too is neither."""
    failed = sum(bool(result.faults) and not result.directly_too for result in results)
    return sum(not result.faults for result in results), failed


def table(results):
    """Markdown: one row per client, one column per main and mode, and below it what failed."""
    columns = list(dict.fromkeys((result.server, result.mode) for result in results))
    lines = [
        "| client | " + " | ".join(f"{server}, {mode}" for server, mode in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for client in dict.fromkeys(result.client for result in results):
        cells = []
        for column in columns:
            own = [r for r in results if r.client == client and (r.server, r.mode) == column]
            good = sum(not result.faults for result in own)
            also = sum(result.directly_too for result in own)
            note = f", {also} fails directly too" if also else ""
            cells.append(f"{good} of {len(own)}{note}" if own else "cannot")
        lines.append(f"| {client} | " + " | ".join(cells) + " |")
    failures = [
        f"- {'(directly too) ' if r.directly_too else ''}{r.client}, {r.server}, {r.mode}, "
        f"{r.case}: {_short('; '.join(r.faults))}"
        for r in results
        if r.faults
    ]
    cases = "; ".join(f"{case}: {how}" for case, (_, how) in job.CASES.items())
    cases += f"; {job.KEYS_CASE}: {len(job.KEYS)} odd keys, where the client takes any key"
    return "\n".join([*lines, "", f"Cases: {cases}.", "", *failures])


def _short(text):
    # What is written down must not depend on this machine or this run.
    text = re.sub(r"(/[\w.-]+){2,}/", ".../", " ".join(text.split()))
    return text if len(text) <= 300 else text[:297] + "..."
