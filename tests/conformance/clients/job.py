"""What every client is asked to do, and how it answers.

A client is a program of its own: a real one, with its default settings but for the endpoint, the
keys and path-style addressing. It finds its job in the environment and, for each case, uploads the
file `IN/<case>` as `<PREFIX>/<case>`, downloads it again to `OUT/<case>`, and prints one line of
JSON: {"case": ..., "error": null or text}. Everything else is checked by the suite.
"""

import json
import os
import traceback

#: Case, size in bytes, and how the client is to send it.
CASES = {
    "0": (0, "one PUT"),
    "1": (1, "one PUT"),
    "70KiB": (70 * 1024, "one PUT"),
    "20MiB": (20 * 1024 * 1024, "multipart, by the client's own rules"),
    "stream": (6 * 1024 * 1024 + 123, "from a stream, its length not known where the client can"),
}
#: A case of its own, for clients that take any key: what must come through as it is, or not at all.
KEYS_CASE = "keys"
KEYS = (
    "a//b",
    "/leading",
    "trailing/",
    "./dot",
    "a/../b",
    " spaces  within ",
    "a+b",
    "a%2Fb",
    "%",
    "tilde~",
    "!*'()",
    ",:@=$&;",
    "\u00fc",
    "\u2603",
    "\U0001f600",
    "e\u0301",
    "line\nbreak",
    "tab\t",
    "del\x7f",
    "\x01",
    '<>&"',
    "question?mark",
    "hash#mark",
    "back\\slash",
    "k" * 900,
)
#: What clients that can set them send along.
CONTENT_TYPE = "text/x-conformance"
METADATA = {"origin": "conformance suite"}

ANONYMOUS = "anonymous"


class Job:
    """The job as Python clients see it."""

    def __init__(self):
        self.endpoint = os.environ["ENDPOINT"]
        self.bucket = os.environ["BUCKET"]
        self.prefix = os.environ["PREFIX"]
        self.access_key = os.environ.get("ACCESS_KEY")
        self.secret_key = os.environ.get("SECRET_KEY")

    @property
    def anonymous(self):
        return not self.access_key

    def key(self, case):
        return f"{self.prefix}/{case}"

    @staticmethod
    def source(case):
        return os.path.join(os.environ["IN"], case)

    @staticmethod
    def target(case):
        return os.path.join(os.environ["OUT"], case)

    def data(self, case):
        with open(self.source(case), "rb") as file:
            return file.read()

    def run(self, perform, put_and_get=None):
        """Calls `perform(case)` for every case and reports.

        With `put_and_get(key, data)`, which returns what it got, the keys are tried as well.
        """

        def keys(_case):
            failed = []
            for key in KEYS:
                data = key.encode()
                try:
                    good = put_and_get(f"{self.key(KEYS_CASE)}/{key}", data) == data
                except Exception:
                    good = False
                if not good:
                    failed.append(key)
            if failed:
                raise RuntimeError(f"keys that failed: {json.dumps(failed)}")

        performers = dict.fromkeys(CASES, perform)
        if put_and_get:
            performers[KEYS_CASE] = keys
        for case, perform in performers.items():
            error = None
            try:
                perform(case)
            except Exception as fault:
                error = f"{type(fault).__name__}: {fault}"
                traceback.print_exc()
            print(json.dumps({"case": case, "error": error}), flush=True)


class Unseekable:
    """A file of which nobody can tell the length in advance."""

    def __init__(self, path):
        self._file = open(path, "rb")

    def read(self, size=-1):
        return self._file.read(size)

    def seekable(self):
        return False
