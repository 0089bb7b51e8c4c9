"""What two answers to the same request have in common when nothing is wrong.

Names of buckets, ids and moments necessarily differ. Ids are not blotted out but numbered in the
order in which a side first saw them, so that an id that comes back at the wrong place still shows.
"""

import re
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

#: Headers that belong to one connection or one request and are never compared.
UNCOMPARED = {
    "date",
    "connection",
    "keep-alive",
    "transfer-encoding",
    "x-amz-request-id",
    "x-amz-id-2",
    "x-amzn-requestid",
    # Figures that change with every request.
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
}
_ID_HEADERS = {"x-amz-version-id", "x-amz-copy-source-version-id"}
_REQUEST_IDS = re.compile(r"<(RequestId|HostId)>[^<]*</\1>")
_IDS = re.compile(
    r"<(UploadId|VersionId|DeleteMarkerVersionId|UploadIdMarker|NextUploadIdMarker|"
    r"VersionIdMarker|NextVersionIdMarker)>([^<]+)</\1>"
)
_DELETED = re.compile(r"<(Deleted|Error)>.*?</\1>")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
_HTTP_DATE = re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")


class Mask:
    """Masks the answers of one side, in order."""

    def __init__(self, side, versions=True):
        self._side = side
        #: Does this server keep versions? If not, their ids say nothing.
        self._versions = versions
        self._ids = {}
        self._now = datetime.now(timezone.utc)

    def __call__(self, exchange):
        """A dictionary that is equal on both sides if the answers say the same."""
        response = exchange.response
        if response is None:
            return {"status": f"none ({exchange.failure})"}
        masked = {"status": str(response.status)}
        headers = {}
        for name, value in response.headers:
            if name not in UNCOMPARED:
                headers.setdefault(name, []).append(self._header(exchange, name, value))
        masked.update({f"header {name}": ", ".join(values) for name, values in headers.items()})
        masked["body"] = self._text(exchange, response.body.decode("latin-1"))
        return masked

    def _header(self, exchange, name, value):
        if name == "content-length" and exchange.method != "HEAD":
            # The masked body is compared as a whole; its raw length may hold a longer port number.
            whole = int(value) == len(exchange.response.body)
            return "of the body" if whole or exchange.response.status in (204, 304) else value
        if name in _ID_HEADERS:
            return self._id(value) if self._versions else "an id"
        return self._text(exchange, value)

    def _text(self, exchange, text):
        if exchange.family != "service":  # that one shows both sides' buckets to both
            text = text.replace(f"cmp-{self._side.name}-{self._side.token}-", "BUCKET-")
        text = text.replace(self._side.host, "HOST")
        text = _REQUEST_IDS.sub(r"<\1>ID</\1>", text)
        text = _IDS.sub(lambda m: f"<{m[1]}>{self._id(m[2])}</{m[1]}>", text)
        text = _MOMENT.sub(self._moment, text)
        if "<DeleteResult" in text:  # its order means nothing, and the server's is not stable
            found = sorted(match[0] for match in _DELETED.finditer(text))
            text = _DELETED.sub("", text) + "".join(found)
        return _HTTP_DATE.sub(self._http_date, text)

    def _id(self, value):
        if value in ("null", ""):
            return value
        return self._ids.setdefault(value, f"id {len(self._ids) + 1}")

    def _near(self, moment):
        return abs(moment - self._now) < timedelta(hours=6)

    def _moment(self, match):
        moment = datetime.fromisoformat(match[0].replace("Z", "+00:00"))
        return "NOW" if self._near(moment) else match[0]

    def _http_date(self, match):
        return "NOW" if self._near(parsedate_to_datetime(match[0])) else match[0]
