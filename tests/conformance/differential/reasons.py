"""Every difference that is meant, by name: cases name them, the documentation prints them."""

NAMED = {
    "anonymous": "without client authentication the proxy signs for everybody who reaches it",
    "unverified": "without client authentication signatures are replaced, not verified",
    "expiry": "without client authentication the age of a presigned URL is not enforced",
    "form": "form uploads are answered 501: their signature covers a policy and cannot be replaced",
    "payload value": "",
    "aws-chunked stored": "",
    "decoded length": "",
    "short chunks": "",
    "malformed chunks": "",
    "streaming elsewhere": "",
    "illegal key": "",
}


def of(exchange, differences):
    """Why this exchange may differ as it does; None if it must not."""
    if not differences or exchange.differs is None:
        return None
    return NAMED[exchange.differs]
