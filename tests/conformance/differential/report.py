"""The outcome of a differential run, for a terminal and for the documentation."""

from collections import Counter

from . import reasons

MODES = (reasons.OPEN, reasons.VERIFIED)


def show_failures(verdicts):
    """Prints every difference that nothing explains. Returns how many there are."""
    failed = [verdict for verdict in verdicts if not verdict.passed]
    for verdict in failed:
        print(f"DIFFERENT ({verdict.mode}) {verdict.family}: {verdict.title} ({verdict.method})")
        for aspect, (direct, proxied) in verdict.differences.items():
            print(
                f"    {aspect}\n        direct: {direct[:400]!r}\n        proxy:  {proxied[:400]!r}"
            )
    return len(failed)


def table(verdicts):
    """Markdown: per family how many requests, and per mode how the answers compare."""
    lines = [
        "| family | requests | open: equal | same code | explained | FAULT "
        "| verified: equal | same code | explained | FAULT |",
        "|---" + "|---:" * 9 + "|",
    ]
    families = list(dict.fromkeys(verdict.family for verdict in verdicts))
    totals = Counter()
    for family in families:
        own = [verdict for verdict in verdicts if verdict.family == family]
        requests = sum(verdict.mode == reasons.OPEN for verdict in own)
        cells = [requests]
        for mode in MODES:
            kinds = Counter(_kind(verdict) for verdict in own if verdict.mode == mode)
            cells += [kinds[kind] for kind in ("equal", "worded", "explained", "fault")]
        totals.update(dict(enumerate(cells)))
        lines.append(_row(family, cells))
    lines.append(_row("**all**", [totals[index] for index in range(9)]))
    return "\n".join(lines)


def servers(runs):
    """Markdown: per server how the answers compare, and what explains the differences."""
    lines = [
        "| server | requests | open: equal | same code | explained | FAULT "
        "| verified: equal | same code | explained | FAULT | objects on the mirror | unequal |",
        "|---" + "|---:" * 11 + "|",
    ]
    for server, (verdicts, unequal, mirrored) in runs.items():
        cells = [sum(verdict.mode == reasons.OPEN for verdict in verdicts)]
        for mode in MODES:
            kinds = Counter(_kind(verdict) for verdict in verdicts if verdict.mode == mode)
            cells += [kinds[kind] for kind in ("equal", "worded", "explained", "fault")]
        lines.append(_row(server, [*cells, mirrored, len(unequal)]))
    for server, (verdicts, unequal, _) in runs.items():
        own = reasons.OTHERS.get(server, {})
        for reason in own:
            titles = dict.fromkeys(
                f"{verdict.family}: {verdict.title}"
                for verdict in verdicts
                if verdict.reason == reason
            )
            if titles:
                lines += ["", f"- **{server}**: {reason} ({'; '.join(titles)})"]
        found = faults(verdicts)
        lines += ["", *(f"- **{server}**, mirror: {fault}" for fault in unequal)]
        lines += [found] if found else []
    return "\n".join(lines)


def explanations(verdicts):
    """Markdown: every reason that explained something, with the requests it explained."""
    lines = []
    for name, reason in reasons.REASONS.items():
        explained = [verdict for verdict in verdicts if verdict.reason == name]
        if not explained:
            continue
        modes = sorted({verdict.mode for verdict in explained})
        where = "" if len(modes) == len(MODES) else f", {modes[0]} only"
        titles = dict.fromkeys(f"{verdict.family}: {verdict.title}" for verdict in explained)
        lines.append(f"- **{name}**{where}. {reason.text}\n  ({'; '.join(titles)})")
    return "\n".join(lines)


def faults(verdicts):
    """Markdown: what differs and should not; empty if nothing does."""
    lines = []
    for verdict in verdicts:
        if not verdict.passed:
            aspect, (direct, proxied) = next(iter(verdict.differences.items()))
            lines.append(
                f"- {verdict.mode}, {verdict.family}: {verdict.title} ({verdict.method}): "
                f"{aspect} is `{_short(direct)}` directly and `{_short(proxied)}` here."
            )
    return "\n".join(lines)


def _kind(verdict):
    if not verdict.differences:
        return "equal"
    if verdict.worded:
        return "worded"
    return "explained" if verdict.reason else "fault"


def _row(name, cells):
    return f"| {name} | " + " | ".join(str(cell) if cell else "" for cell in cells) + " |"


def _short(text):
    text = " ".join(text.replace("`", "'").replace("|", "/").split())
    return text if len(text) <= 90 else text[:87] + "..."
