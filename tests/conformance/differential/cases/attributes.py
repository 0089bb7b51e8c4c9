"""What hangs on objects: tags, ACLs, retention and legal hold; versions."""

import base64
import hashlib

from ..side import ANONYMOUS

TAGS = (
    b"<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag><Tag><Key>b c</Key>"
    b"<Value>x&amp;y</Value></Tag></TagSet></Tagging>"
)


def md5(body):
    return ("Content-MD5", base64.b64encode(hashlib.md5(body).digest()).decode())


def tagging(s):
    s.make_bucket()
    s.put("an object", "k", b"one")
    s.get("no tags", "k", query="?tagging")
    s.put("tags", "k", TAGS, query="?tagging", headers=[md5(TAGS)])
    s.get("tags", "k", query="?tagging")
    s.head("count of tags", "k")
    s.put("object with tags", "k2", b"two", headers=[("x-amz-tagging", "a=1&b=2%203")])
    s.get("tags of it", "k2", query="?tagging")
    s.put("copy with tags", "k3", headers=[("x-amz-copy-source", f"/{s.bucket}/k2")])
    s.get("tags of the copy", "k3", query="?tagging")
    s.put(
        "copy with other tags",
        "k4",
        headers=[
            ("x-amz-copy-source", f"/{s.bucket}/k2"),
            ("x-amz-tagging-directive", "REPLACE"),
            ("x-amz-tagging", "z=9"),
        ],
    )
    s.get("tags of that copy", "k4", query="?tagging")
    many = (
        b"<Tagging><TagSet>"
        + b"".join(b"<Tag><Key>k%d</Key><Value>v</Value></Tag>" % n for n in range(11))
        + b"</TagSet></Tagging>"
    )
    s.put("eleven tags", "k", many, query="?tagging")
    s.put("malformed tags", "k", b"<Tagging><", query="?tagging")
    s.put("tags of nothing", "nope", TAGS, query="?tagging")
    s.get("tags of nothing", "nope", query="?tagging")
    s.delete("tags", "k", query="?tagging")
    s.get("tags, none again", "k", query="?tagging")
    s.put("tags of the bucket", "", TAGS, query="?tagging", headers=[md5(TAGS)])
    s.get("tags of the bucket", "", query="?tagging")
    s.delete("tags of the bucket", "", query="?tagging")
    s.get("tags of the bucket, none", "", query="?tagging")


def acl(s):
    s.make_bucket()
    s.put("an object", "k", b"one")
    answer = s.get("ACL", "k", query="?acl")
    s.put("canned", "k", query="?acl", headers=[("x-amz-acl", "public-read")])
    s.get("canned ACL", "k", query="?acl")
    s.get("public object, anonymous", "k", payload=ANONYMOUS)
    s.put("document", "k", answer.body, query="?acl")
    s.get("document ACL", "k", query="?acl")
    s.put("malformed document", "k", b"<Access", query="?acl")
    s.put("unknown canned", "k", query="?acl", headers=[("x-amz-acl", "nobody-at-all")])
    s.put("object with canned ACL", "k2", b"two", headers=[("x-amz-acl", "public-read")])
    s.get("its ACL", "k2", query="?acl")
    s.put("grant to nobody known", "k3", b"x", headers=[("x-amz-grant-read", 'id="no-such-user"')])
    s.get("ACL of nothing", "nope", query="?acl")
    s.get("ACL of the bucket", "", query="?acl")
    s.put("canned of the bucket", "", query="?acl", headers=[("x-amz-acl", "public-read")])
    s.get("public bucket, anonymous", "", payload=ANONYMOUS)
    s.get("private object, anonymous", "k", payload=ANONYMOUS, differs="anonymous")


def versions(s):
    s.make_bucket()
    s.get("versioning, never set", "", query="?versioning")
    s.put("before versioning", "k", b"zero")
    state = "<VersioningConfiguration><Status>%s</Status></VersioningConfiguration>"
    s.put("enable", "", (state % "Enabled").encode(), query="?versioning")
    s.get("versioning, enabled", "", query="?versioning")
    first = s.put("first", "k", b"first").header("x-amz-version-id")
    second = s.put("second", "k", b"second").header("x-amz-version-id")
    s.get("newest", "k")
    s.get("first by id", "k", query=f"?versionId={first}")
    s.head("first by id", "k", query=f"?versionId={first}")
    s.get("null by id", "k", query="?versionId=null")
    s.get("unknown id", "k", query="?versionId=doesnotexist")
    marker = s.delete("makes a marker", "k").header("x-amz-version-id")
    s.get("marked", "k")
    s.head("marked", "k")
    s.get("the marker itself", "k", query=f"?versionId={marker}")
    s.get("list of versions", "", query="?versions")
    s.get(
        "list of versions, encoded, by page",
        "",
        query="?versions&encoding-type=url&max-keys=2&prefix=k",
    )
    s.put(
        "copy of a version",
        "copy",
        headers=[("x-amz-copy-source", f"/{s.bucket}/k?versionId={first}")],
    )
    s.get("the copy", "copy")
    s.put("tags of a version", "k", TAGS, query=f"?tagging&versionId={second}")
    s.get("tags of a version", "k", query=f"?tagging&versionId={second}")
    s.delete("the marker", "k", query=f"?versionId={marker}")
    s.get("second again", "k")
    s.delete("second for good", "k", query=f"?versionId={second}")
    s.get("first is newest", "k")
    document = (
        f"<Delete><Object><Key>k</Key><VersionId>{first}</VersionId></Object><Object>"
        f"<Key>copy</Key></Object></Delete>"
    ).encode()
    s.post("delete of versions and keys", "", document, query="?delete", headers=[md5(document)])
    s.get("list after it", "", query="?versions")
    s.put("suspend", "", (state % "Suspended").encode(), query="?versioning")
    s.put("while suspended", "k", b"null again")
    s.get("list while suspended", "", query="?versions")
    s.put(
        "nonsense",
        "",
        b"<VersioningConfiguration><Status>Perhaps</Status></VersioningConfiguration>",
        query="?versioning",
    )


def locks(s):
    s.make_bucket(headers=[("x-amz-bucket-object-lock-enabled", "true")])
    s.get("configuration", "", query="?object-lock")
    s.put("an object", "k", b"locked")
    s.get("no retention", "k", query="?retention")
    retention = (
        b"<Retention><Mode>GOVERNANCE</Mode>"
        b"<RetainUntilDate>2037-01-01T00:00:00.000Z</RetainUntilDate></Retention>"
    )
    s.put("retention", "k", retention, query="?retention", headers=[md5(retention)])
    s.get("retention", "k", query="?retention")
    s.head("retention in HEAD", "k")
    hold = b"<LegalHold><Status>%s</Status></LegalHold>"
    s.put("hold", "k", hold % b"ON", query="?legal-hold", headers=[md5(hold % b"ON")])
    s.get("hold", "k", query="?legal-hold")
    version = s.head("its version", "k").header("x-amz-version-id")
    s.delete("a held version", "k", query=f"?versionId={version}")
    s.put("no hold", "k", hold % b"OFF", query="?legal-hold", headers=[md5(hold % b"OFF")])
    s.delete("a retained version", "k", query=f"?versionId={version}")
    s.delete(
        "with bypass",
        "k",
        query=f"?versionId={version}",
        headers=[("x-amz-bypass-governance-retention", "true")],
    )
    s.put(
        "object with lock headers",
        "k2",
        b"x",
        headers=[
            ("x-amz-object-lock-mode", "GOVERNANCE"),
            ("x-amz-object-lock-retain-until-date", "2037-01-01T00:00:00Z"),
            md5(b"x"),
        ],
    )
    s.put("malformed retention", "k", b"<Ret", query="?retention")
    rule = (
        b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule>"
        b"<DefaultRetention><Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention>"
        b"</Rule></ObjectLockConfiguration>"
    )
    s.put("default retention", "", rule, query="?object-lock", headers=[md5(rule)])
    s.get("default retention", "", query="?object-lock")


FAMILIES = [("tagging", tagging), ("acl", acl), ("versions", versions), ("locks", locks)]
