"""Entry of the conformance suite: `run.py differential|clients [arguments]`."""

import argparse
import sys

import paths
from lab import lab


def differential(arguments):
    from differential import report, suite

    with lab("rgw") as running:
        verdicts, buckets = suite.run(running)
    return report.show(verdicts, verbose=arguments.verbose)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["differential"])
    parser.add_argument("-v", "--verbose", action="store_true")
    arguments = parser.parse_args()
    assert paths.REPOSITORY.is_dir()
    sys.exit(differential(arguments))


if __name__ == "__main__":
    main()
