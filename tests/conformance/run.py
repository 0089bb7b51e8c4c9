"""Entry of the conformance suite; scripts/conformance installs what it needs and calls it."""

import argparse
import contextlib
import sys

import paths
from lab import lab


def differential(arguments):
    """Compares the answers of main with the answers through the proxy."""
    import document
    from convergence import mirror_faults
    from differential import report, suite

    verdicts, unequal, mirrored = [], [], 0
    for mode in report.MODES:
        clients = [suite.CLIENT] if mode == "verified" else []
        with lab("rgw", clients) as running:
            compared, buckets = suite.run(running, mode)
            verdicts += compared
            keys, faults = mirror_faults(running, buckets)
            mirrored += keys
            unequal += [f"({mode}) {fault}" for fault in faults]
    failed = report.show_failures(verdicts)
    for fault in unequal:
        print(f"MIRROR {fault}")
    unused = suite.unused_reasons(verdicts)
    for name in unused:
        print(f"UNUSED the reason {name!r} explains nothing any more")
    print(report.table(verdicts))
    if arguments.write:
        document.write("differential", _chapter(report, verdicts, mirrored, unequal))
    return len(verdicts) - failed + mirrored - len(unequal), failed + len(unequal) + len(unused)


def _chapter(report, verdicts, mirrored, unequal):
    parts = [report.table(verdicts), "### Explained differences", report.explanations(verdicts)]
    faults = report.faults(verdicts)
    if faults:
        parts += ["### Faults found by this run", faults]
    parts.append(
        f"After the runs the mirror was compared with main, {mirrored} objects: "
        + (
            f"{len(unequal)} differ."
            if unequal
            else "bytes, headers, metadata, tags and ETags equal."
        )
    )
    parts += [f"- {fault}" for fault in unequal]
    return "\n\n".join(parts)


def clients(arguments):
    """Runs real clients against the proxy."""
    import document
    from clients import report, suite

    results = suite.run(arguments.only)
    print(report.table(results))
    passed, failed = report.count(results)
    if arguments.write and not arguments.only:
        document.write("clients", report.table(results))
    return passed, failed


PARTS = {"differential": differential, "clients": clients}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all of them")
    parser.add_argument("--only", action="append", help="one client by its name; may be repeated")
    parser.add_argument("--write", action="store_true", help="update docs/compatibility.md")
    arguments = parser.parse_args()
    totals = [PARTS[name](arguments) for name in arguments.parts or PARTS]
    passed, failed = (sum(column) for column in zip(*totals, strict=True))
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    assert paths.REPOSITORY.is_dir()
    with contextlib.suppress(KeyboardInterrupt):
        main()
