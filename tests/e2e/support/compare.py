"""Is the mirror equal to main, is the inventory equal to main? Every difference is listed."""

import hashlib

from botocore.exceptions import ClientError

from .s3 import every_key

#: What of a HEAD must be the same on both sides, by boto3's names.
COMPARED_HEAD_FIELDS = (
    "ContentLength",
    "ETag",
    "ContentType",
    "ContentEncoding",
    "ContentLanguage",
    "ContentDisposition",
    "CacheControl",
    "ExpiresString",
    "WebsiteRedirectLocation",
    "Metadata",
)


def describe(s3, bucket, key):
    """Everything that makes an object what it is; None when there is none."""
    try:
        answer = s3.get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise
    digest = hashlib.sha256()
    for piece in answer["Body"].iter_chunks(1 << 20):
        digest.update(piece)
    state = {field: answer.get(field) for field in COMPARED_HEAD_FIELDS}
    state["sha256"] = digest.hexdigest()
    state["Tags"] = {tag["Key"]: tag["Value"] for tag in _tags(s3, bucket, key)}
    return state


def _tags(s3, bucket, key):
    try:
        return s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
    except ClientError as error:
        # Some servers have no tags at all.
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 501:
            return []
        raise


def all_states(s3, bucket):
    return {key: describe(s3, bucket, key) for key in every_key(s3, bucket)}


def mirror_differences(main, mirror, bucket, mirror_bucket=None):
    """Lines that say how the mirror bucket differs from main's; none means equal."""
    ours = all_states(main, bucket)
    try:
        theirs = all_states(mirror, mirror_bucket or bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucket":
            raise
        # A bucket nothing was written to need not exist on the mirror.
        theirs = {}
    lines = [f"only on main: {key!r}" for key in sorted(ours.keys() - theirs.keys())]
    lines += [f"only on the mirror: {key!r}" for key in sorted(theirs.keys() - ours.keys())]
    for key in sorted(ours.keys() & theirs.keys()):
        for field, value in ours[key].items():
            if theirs[key][field] != value:
                lines.append(f"{key!r} {field}: main {value!r}, mirror {theirs[key][field]!r}")
    return lines


def inventory_differences(main, bucket, rows, mirrored=True):
    """Lines that say how inventory `rows` differ from main's bucket; none means equal."""
    by_path = {row["path"]: row for row in rows}
    lines = []
    if len(by_path) != len(rows):
        lines.append("a path has more than one row")
    keys = every_key(main, bucket)
    for key in sorted(keys):
        row = by_path.get(key)
        if row is None:
            lines.append(f"no row for {key!r}")
            continue
        head = main.head_object(Bucket=bucket, Key=key)
        expected = {
            "size": head["ContentLength"],
            "content_type": head["ContentType"],
            "last_modified": head["LastModified"].replace(tzinfo=None, microsecond=0),
            "deleted": False,
            "is_backed_up": mirrored,
        }
        actual = {field: row[field] for field in expected}
        actual["last_modified"] = actual["last_modified"].replace(microsecond=0)
        for field, value in expected.items():
            if actual[field] != value:
                lines.append(f"{key!r} {field}: main {value!r}, inventory {actual[field]!r}")
    for path in sorted(by_path.keys() - keys.keys()):
        if not by_path[path]["deleted"]:
            lines.append(f"{path!r} is gone from main and not marked deleted: {by_path[path]}")
    return lines


def fail_on(lines, title):
    assert not lines, f"{title}: {len(lines)} difference(s)\n" + "\n".join(lines[:40])
