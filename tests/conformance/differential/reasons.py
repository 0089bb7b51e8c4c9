"""Every difference that is meant, by the name its cases give it. The documentation prints them."""

from dataclasses import dataclass

OPEN = "open"
VERIFIED = "verified"


@dataclass(frozen=True)
class Reason:
    """`modes`: where the difference is to be seen; elsewhere it is a failure like any other."""

    text: str
    modes: tuple = (OPEN, VERIFIED)
    #: A race of the server's own decides whether there is a difference.
    sometimes: bool = False
    #: The status must be the same all the same.
    same_status: bool = False


REASONS = {
    "anonymous": Reason(
        "Without client authentication the proxy signs for everybody who reaches it, so main "
        "never sees an anonymous request.",
        (OPEN,),
    ),
    "refused": Reason(
        "With client authentication every request must be signed. What main would show to "
        "anonymous readers (public ACLs and policies) is refused, but for preflights.",
        (VERIFIED,),
    ),
    "unverified": Reason(
        "Without client authentication signatures are replaced, not verified: a wrong one, an "
        "unknown access key or a foreign session token is not noticed.",
        (OPEN,),
    ),
    "expiry": Reason(
        "Without client authentication the age of a presigned URL is not enforced: its signature "
        "proves nothing.",
        (OPEN,),
    ),
    "SigV2": Reason(
        "With client authentication only Signature Version 4 is accepted.",
        (VERIFIED,),
    ),
    "presign limits": Reason(
        "With client authentication faults of a presigned URL's own parameters are answered with "
        "the codes of AWS; this server answers AccessDenied to all of them.",
        (VERIFIED,),
    ),
    "unsigned header": Reason(
        "With client authentication an `x-amz-*` header outside the signature is refused, as AWS "
        "does; this server lets some of them pass.",
        (VERIFIED,),
    ),
    "form answer": Reason(
        "The answer to a form upload tells ETag and Location, as AWS's does; this server's tells "
        "neither."
    ),
    "payload value": Reason(
        "A value of x-amz-content-sha256 that S3 does not define is refused as AWS refuses it; "
        "this server takes it for a hash that does not match."
    ),
    "aws-chunked stored": Reason(
        "The proxy takes the token `aws-chunked` out of Content-Encoding together with the "
        "framing, as AWS does; this server stores it with the object."
    ),
    "chunks of nothing": Reason(
        "An empty body in signed chunks is legal; this server refuses it, the proxy decodes it."
    ),
    "decoded length": Reason(
        "A chunked body without x-amz-decoded-content-length is answered 411, as AWS does: what "
        "is sent to main must have a length."
    ),
    "chunk errors": Reason(
        "Framing and trailers are checked by the proxy, which answers the codes of AWS "
        "(IncompleteBody, BadDigest); this server has others for them."
    ),
    "streaming elsewhere": Reason(
        "A STREAMING value of x-amz-content-sha256 is accepted for PutObject and UploadPart only, "
        "as AWS does; this server does not look."
    ),
    "illegal key": Reason(
        "A path that cannot be a key (NUL, not UTF-8, a broken escape, more than 1024 bytes) is "
        "refused with the codes of AWS before it reaches main."
    ),
    "document": Reason(
        "The keys of DeleteObjects are noted before anything is deleted, so its document is read "
        "first; one that is malformed, empty or longer than 1000 keys is refused as AWS does. "
        "This server accepts an empty list, and words its refusals differently."
    ),
    "closed early": Reason(
        "A server that answers an error before it has read the body, and closes, may reset the "
        "connection before its answer has been read. What is lost is replaced by an error document "
        "of the proxy with the same status.",
        sometimes=True,
        same_status=True,
    ),
    "repeated parameter": Reason(
        "This server cannot verify any signature over a parameter that is given twice. A refusal "
        "of the proxy's own signature is answered 503, never as if the client's key were wrong."
    ),
}


def allowed(names, mode, differences):
    """The first of the case's named reasons that holds in this mode, else None."""
    for name in names:
        reason = REASONS[name]
        if mode in reason.modes and not (reason.same_status and "status" in differences):
            return name
    return None


#: What other servers do otherwise, by the cases in which it shows: {server: {reason: cases}}.
OTHERS = {
    "garage": {
        "The ETag of an object under a customer's key is another one each time.": {
            "objects: SSE-C",
            "objects: SSE-C with key",
        },
        "A copy source without a key is refused before it reaches main.": {
            "copies: malformed source"
        },
        "It has no ACLs and no policies; without client authentication the proxy signs for "
        "everybody.": {
            "acl: public object, anonymous",
            "acl: public bucket, anonymous",
            "settings: allowed to everybody",
        },
        "It takes Signature Version 4 only, over every header; without client authentication any "
        "signature is replaced.": {
            "presigned: SigV2 GET",
            "identities: SigV2",
            "identities: a header that is not signed",
        },
        "It has codes of its own for faults of a signature; verified clients get those of AWS.": {
            "presigned: expired",
            "presigned: wrong signature",
            "identities: wrong secret",
            "identities: unknown access key",
        },
        "It stores an object of signed chunks that is shorter than announced; the proxy refuses it.": {
            "payloads: one byte short"
        },
        "It refuses signed trailers; the proxy verifies and decodes them.": {
            "payloads: signed chunks with trailer"
        },
        "A key that cannot be recorded is refused here, and so is not in the list.": {
            "keys: list of all",
            "keys: list of all, not encoded",
        },
        "It takes an object without a length for an empty one; the proxy answers 411, as AWS does.": {
            "requests: PUT without length"
        },
        "It lists buckets in no order.": {
            "requests: DELETE of the service",
            "service: list of buckets",
        },
    },
    "minio": {
        "It demands Content-MD5 of lists of deletes, which the proxy adds.": {
            "deletes: without Content-MD5",
            "deletes: list after it",
        },
        "The file of a form gets another default type than an object that is put, which a form "
        "becomes here.": {"forms: what it made"},
        "It takes an object without a length for an empty one; the proxy answers 411, as AWS does.": {
            "requests: PUT without length"
        },
        "`Location` names main's own host: what completing an upload answers passes as it comes.": {
            "multipart: complete",
            "multipart: complete the copies",
        },
        "A client's session token is dropped, whatever it says.": {
            "identities: session token of nobody"
        },
        "It knows no public ACL; without client authentication the proxy signs for everybody.": {
            "acl: public object, anonymous",
            "acl: public bucket, anonymous",
        },
    }
}


def of_server(server, family, title, differences):
    """The reason that this server gives for a difference, else None."""
    for reason, cases in OTHERS.get(server, {}).items():
        if f"{family}: {title}" in cases:
            return reason
    return None
