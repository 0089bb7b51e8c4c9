"""Where things are; importing this makes the end-to-end suite's support package importable.

The two suites share it on purpose: the raw socket client and the hand-made signatures are the same
instruments, and one place to be wrong is enough.
"""

import sys
from pathlib import Path

SUITE = Path(__file__).resolve().parent
REPOSITORY = SUITE.parents[1]
CACHE = REPOSITORY / ".cache" / "conformance"
COMPATIBILITY = REPOSITORY / "docs" / "compatibility.md"

sys.path.insert(0, str(REPOSITORY / "tests" / "e2e"))
