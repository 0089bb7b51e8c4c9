"""Entry of the conformance suite; scripts/conformance installs what it needs and calls it."""

import argparse
import contextlib
import sys

import paths
import servers
from lab import lab


def differential(arguments):
    """Compares the answers of main with the answers through the proxy."""
    if arguments.server:
        return _others(arguments)
    import document
    from differential import report, suite

    verdicts, unequal, mirrored = _compare("rgw")
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


def _compare(server):
    """(verdicts, differences between main and mirror, objects compared), both modes."""
    from convergence import mirror_faults
    from differential import report, suite

    verdicts, unequal, mirrored = [], [], 0
    for mode in report.MODES:
        clients = [suite.CLIENT] if mode == "verified" else []
        with lab(server, clients) as running:
            compared, buckets = suite.run(running, mode, server)
            verdicts += compared
            keys, faults = mirror_faults(running, buckets)
            mirrored += keys
            unequal += [f"({mode}) {fault}" for fault in faults]
    return verdicts, unequal, mirrored


def _others(arguments):
    """The same in front of other servers, which are summed up."""
    import document
    from differential import report

    passed, failed, runs = 0, 0, {}
    for server in arguments.server:
        verdicts, unequal, mirrored = runs[server] = _compare(server)
        print(f"== {server}")
        faults = report.show_failures(verdicts)
        for fault in unequal:
            print(f"MIRROR {fault}")
        passed += len(verdicts) - faults + mirrored - len(unequal)
        failed += faults + len(unequal)
    print(report.servers(runs))
    if arguments.write:
        document.write("servers", report.servers(runs))
    return passed, failed


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

    results = suite.run(arguments.only, arguments.server or ("store", "rgw"))
    print(report.table(results))
    passed, failed = report.count(results)
    if arguments.write and not arguments.only:
        section = "other clients" if arguments.server else "clients"
        document.write(section, report.table(results))
    return passed, failed


PARTS = {"differential": differential, "clients": clients}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all of them")
    parser.add_argument("--only", action="append", help="one client by its name; may be repeated")
    parser.add_argument(
        "--server",
        action="append",
        choices=[*servers.SERVERS],
        help="in front of this one instead; may be repeated",
    )
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
