"""Entry of the conformance suite: `run.py differential|clients [arguments]`."""

import argparse
import sys

import paths
from lab import lab


def differential(arguments):
    from differential import report, suite

    verdicts = []
    for mode in ("open", "verified"):
        clients = [suite.CLIENT] if mode == "verified" else []
        with lab("rgw", clients) as running:
            compared, buckets = suite.run(running, mode)
            verdicts += compared
    report.show(verdicts, verbose=arguments.verbose)
    print(suite.unused_reasons(verdicts))
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["differential"])
    parser.add_argument("-v", "--verbose", action="store_true")
    arguments = parser.parse_args()
    assert paths.REPOSITORY.is_dir()
    sys.exit(differential(arguments))


if __name__ == "__main__":
    main()
