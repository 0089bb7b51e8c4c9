"""What a store with versioning holds: buckets, and a stack of versions per key. No HTTP.

The embedded store of the product has no versions, and a second opinion is worth having: this one
knows nothing of the product. It keeps everything in memory and under one lock.
"""

import hashlib
import secrets
import threading
import time
from dataclasses import dataclass, field


class Refused(Exception):
    """An S3 error answer."""

    def __init__(self, status, code, headers=()):
        super().__init__(f"{status} {code}")
        self.status, self.code, self.headers = status, code, dict(headers)


@dataclass
class Version:
    id: str
    body: bytes = b""
    etag: str = ""
    headers: dict = field(default_factory=dict)
    tags: dict = field(default_factory=dict)
    parts: list = field(default_factory=list)
    marker: bool = False
    modified: float = field(default_factory=time.time)

    @property
    def protected(self):
        return (
            self.headers.get("x-amz-object-lock-legal-hold") == "ON"
            or "x-amz-object-lock-retain-until-date" in self.headers
        )


@dataclass
class Bucket:
    versioning: str = ""
    keys: dict = field(default_factory=dict)  # key -> versions, oldest first
    uploads: dict = field(default_factory=dict)


class Versions:
    """All buckets of one store."""

    def __init__(self):
        self.lock = threading.RLock()
        self.buckets = {}

    def create_bucket(self, name):
        if name in self.buckets:
            raise Refused(409, "BucketAlreadyOwnedByYou")
        self.buckets[name] = Bucket()

    def delete_bucket(self, name):
        if any(self.bucket(name).keys.values()):
            raise Refused(409, "BucketNotEmpty")
        del self.buckets[name]

    def bucket(self, name):
        try:
            return self.buckets[name]
        except KeyError:
            raise Refused(404, "NoSuchBucket") from None

    def find(self, bucket, key, version_id=None):
        versions = self.bucket(bucket).keys.get(key, [])
        if version_id is not None:
            for version in versions:
                if version.id == version_id:
                    if version.marker:
                        raise Refused(405, "MethodNotAllowed", {"x-amz-delete-marker": "true"})
                    return version
            raise Refused(404, "NoSuchVersion")
        if not versions:
            raise Refused(404, "NoSuchKey")
        if versions[-1].marker:
            headers = {"x-amz-delete-marker": "true", "x-amz-version-id": versions[-1].id}
            raise Refused(404, "NoSuchKey", headers)
        return versions[-1]

    def push(self, bucket, key, version):
        """Puts a version on top, as the bucket's versioning has it."""
        here = self.bucket(bucket)
        versions = here.keys.setdefault(key, [])
        if here.versioning == "Enabled":
            version.id = secrets.token_urlsafe(18)
        else:
            version.id = "null"
            versions[:] = [old for old in versions if old.id != "null"]
        versions.append(version)
        return version

    def delete(self, bucket, key, version_id=None):
        """(version, was it made by this delete?); version is None where there was nothing."""
        here = self.bucket(bucket)
        versions = here.keys.get(key, [])
        if version_id is None:
            if not here.versioning:
                here.keys.pop(key, None)
                return None, False
            return self.push(bucket, key, Version("", marker=True)), True
        for version in versions:
            if version.id == version_id:
                if version.protected:
                    raise Refused(403, "AccessDenied")
                versions.remove(version)
                return version, False
        return None, False

    def listing(self, bucket, prefix=""):
        """(key, version, is it the latest?) in S3's order."""
        keys = self.bucket(bucket).keys
        for key in sorted(keys, key=lambda key: key.encode()):
            if key.startswith(prefix):
                for version in reversed(keys[key]):
                    yield key, version, version is keys[key][-1]

    def create_upload(self, bucket, key, headers, tags):
        upload_id = secrets.token_urlsafe(12)
        self.bucket(bucket).uploads[upload_id] = (key, headers, tags, {}, time.time())
        return upload_id

    def upload(self, bucket, upload_id):
        try:
            return self.bucket(bucket).uploads[upload_id]
        except KeyError:
            raise Refused(404, "NoSuchUpload") from None

    def complete(self, bucket, upload_id, numbers):
        key, headers, tags, parts, _ = self.upload(bucket, upload_id)
        try:
            bodies = [parts[number] for number in numbers]
        except KeyError:
            raise Refused(400, "InvalidPart") from None
        digests = b"".join(hashlib.md5(body).digest() for body in bodies)
        etag = f"{hashlib.md5(digests).hexdigest()}-{len(bodies)}"
        del self.bucket(bucket).uploads[upload_id]
        version = Version("", b"".join(bodies), etag, headers, tags, [len(b) for b in bodies])
        return key, self.push(bucket, key, version)
