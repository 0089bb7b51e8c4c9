"""Writes what was found into docs/compatibility.md, between markers, and nothing else of it."""

import re

import paths


def write(section, text):
    """Replaces what stands between the markers of `section`."""
    document = paths.COMPATIBILITY.read_text()
    begin, end = f"<!-- begin {section} -->", f"<!-- end {section} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if len(pattern.findall(document)) != 1:
        raise SystemExit(f"{paths.COMPATIBILITY} must hold {begin} and {end} once each")
    new = pattern.sub(lambda _: f"{begin}\n{text.strip()}\n{end}", document)
    if new != document:
        paths.COMPATIBILITY.write_text(new)
