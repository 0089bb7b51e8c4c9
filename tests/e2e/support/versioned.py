"""An S3 store with versioning on loopback, for what the embedded store has not.

It checks no signatures. It speaks what the product and boto3 use: objects, copies, multipart,
tags, `DeleteObjects`, versions, object lock headers and checksums as they were sent.
"""

import hashlib
import os
import threading
import urllib.parse
from email.utils import formatdate
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from .stores import Credentials
from .versions import Refused, Version, Versions

KEPT = ("content-", "cache-control", "expires", "x-amz-meta-", "x-amz-website", "x-amz-object-lock",
        "x-amz-checksum-", "x-amz-storage-class")
NOT_KEPT = ("content-length", "content-md5", "x-amz-checksum-mode", "x-amz-checksum-algorithm")


class VersionedStore:
    """`requests` is every request it got: (method, path, query, headers).

    `refuse(request)` may raise `Refused` before anything is done; where `lose(request)` is true the
    request is done and its connection reset without an answer. `opaque`: its ETags are no digests of
    the content, as where it encrypts with keys of its own.
    """

    def __init__(self, name, opaque=False):
        self.opaque = opaque
        self.refuse = self.lose = lambda request: False
        self.credentials = Credentials.random(f"{name.upper()}KEY")
        self.versions = Versions()
        self.requests = []
        store = self

        class Handler(_Handler):
            versions = store.versions
            owner = store

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = self._server.server_address
        self.endpoint = f"http://127.0.0.1:{self.address[1]}"
        poll = {"poll_interval": 0.05}
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs=poll, daemon=True)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def _date(seconds):
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    # Whole seconds, as Amazon S3 lists them: the order of the list has to do.
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _tags(text):
    return dict(urllib.parse.parse_qsl(text or "", keep_blank_values=True))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def _serve(self):
        target = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(target.path, errors="strict").lstrip("/")
        self.bucket, _, self.key = path.partition("/")
        self.query = _tags(target.query)
        self.fields = {name.lower(): value for name, value in self.headers.items()}
        length = int(self.fields.get("content-length", 0))
        self.body = self.rfile.read(length)
        if len(self.body) < length:
            # Cut off: nothing happens.
            self.close_connection = True
            return
        request = (self.command, path, self.query, self.fields)
        self.owner.requests.append(request)
        try:
            self.owner.refuse(request)
            with self.versions.lock:
                status, headers, body = self._object() if self.key else self._bucket()
        except Refused as refused:
            status, headers = refused.status, refused.headers
            body = f"<Error><Code>{refused.code}</Code></Error>".encode()
        if self.owner.lose(request):
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("x-amz-request-id", "stand-in")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def _bucket(self):
        name, has = self.bucket, self.query.__contains__
        if self.command == "PUT" and has("versioning"):
            status = ElementTree.fromstring(self.body).findtext("{*}Status")
            self.versions.bucket(name).versioning = status
            return 200, {}, b""
        if self.command == "PUT":
            self.versions.create_bucket(name)
            return 200, {}, b""
        bucket = self.versions.bucket(name)
        if self.command == "DELETE":
            self.versions.delete_bucket(name)
            return 204, {}, b""
        if self.command == "POST":
            return self._delete_objects()
        if has("versioning"):
            status = f"<Status>{bucket.versioning}</Status>" if bucket.versioning else ""
            return self._xml("VersioningConfiguration", status)
        if has("versions"):
            return self._list_versions()
        if has("uploads"):
            uploads = "".join(
                f"<Upload><Key>{escape(key)}</Key><UploadId>{upload_id}</UploadId>"
                f"<Initiated>{_date(at)}</Initiated></Upload>"
                for upload_id, (key, _, _, _, at) in bucket.uploads.items()
                if key.startswith(self.query.get("prefix", ""))
            )
            return self._xml("ListMultipartUploadsResult", uploads)
        objects = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_date(version.modified)}"
            f"</LastModified><ETag>&quot;{version.etag}&quot;</ETag><Size>{len(version.body)}"
            "</Size></Contents>"
            for key, version, latest in self.versions.listing(name, self.query.get("prefix", ""))
            if latest and not version.marker
        )
        return self._xml("ListBucketResult", objects + "<IsTruncated>false</IsTruncated>")

    def _list_versions(self):
        encoded = self.query.get("encoding-type") == "url"
        shown = (lambda key: urllib.parse.quote(key, safe="/")) if encoded else escape
        found = list(self.versions.listing(self.bucket, self.query.get("prefix", "")))
        marker = self.query.get("key-marker")
        if marker is not None:
            places = [
                place
                for place, (key, version, _) in enumerate(found)
                if (key, version.id) == (marker, self.query.get("version-id-marker"))
            ]
            found = found[places[0] + 1 :] if places else []
        count = int(self.query.get("max-keys", 1000))
        page, rest = found[:count], found[count:]
        out = "<EncodingType>url</EncodingType>" if encoded else ""
        out += f"<IsTruncated>{'true' if rest else 'false'}</IsTruncated>"
        if rest:
            key, version, _ = page[-1]
            out += f"<NextKeyMarker>{shown(key)}</NextKeyMarker>"
            out += f"<NextVersionIdMarker>{version.id}</NextVersionIdMarker>"
        for key, version, latest in page:
            kind = "DeleteMarker" if version.marker else "Version"
            out += f"<{kind}><Key>{shown(key)}</Key><VersionId>{version.id}</VersionId>"
            out += f"<IsLatest>{'true' if latest else 'false'}</IsLatest>"
            out += f"<LastModified>{_date(version.modified)}</LastModified>"
            if not version.marker:
                out += f"<ETag>&quot;{version.etag}&quot;</ETag><Size>{len(version.body)}</Size>"
            out += f"</{kind}>"
        return self._xml("ListVersionsResult", out)

    def _delete_objects(self):
        out, document = "", ElementTree.fromstring(self.body)
        quiet = document.findtext("{*}Quiet") == "true"
        for item in document.iterfind("{*}Object"):
            key, version_id = item.findtext("{*}Key"), item.findtext("{*}VersionId")
            try:
                version, made = self.versions.delete(self.bucket, key, version_id)
            except Refused as refused:
                out += f"<Error><Key>{escape(key)}</Key><Code>{refused.code}</Code></Error>"
                continue
            if quiet:
                continue
            out += f"<Deleted><Key>{escape(key)}</Key>"
            if version_id:
                out += f"<VersionId>{version_id}</VersionId>"
            if version is not None and version.marker:
                out += "<DeleteMarker>true</DeleteMarker>"
                out += f"<DeleteMarkerVersionId>{version.id}</DeleteMarkerVersionId>"
            out += "</Deleted>"
        return self._xml("DeleteResult", out)

    def _object(self):
        if "uploads" in self.query or "uploadId" in self.query:
            return self._multipart()
        if "tagging" in self.query:
            return self._tagging()
        if "retention" in self.query or "legal-hold" in self.query:
            return self._lock()
        if self.command == "PUT":
            return self._copy() if "x-amz-copy-source" in self.fields else self._put()
        if self.command == "DELETE":
            version_id = self.query.get("versionId")
            version, _ = self.versions.delete(self.bucket, self.key, version_id)
            headers = self._version_header(version) if version else {}
            if version is not None and version.marker:
                headers["x-amz-delete-marker"] = "true"
            return 204, headers, b""
        return self._get()

    def _kept(self):
        return {
            name: value
            for name, value in self.fields.items()
            if name.startswith(KEPT) and name not in NOT_KEPT
        }

    def _version_header(self, version):
        if self.versions.bucket(self.bucket).versioning or version.id != "null":
            return {"x-amz-version-id": version.id}
        return {}

    def _etag(self, body):
        return os.urandom(16).hex() if self.owner.opaque else hashlib.md5(body).hexdigest()

    def _put(self):
        etag = self._etag(self.body)
        tags = _tags(self.fields.get("x-amz-tagging"))
        version = Version("", self.body, etag, self._kept(), tags)
        self.versions.push(self.bucket, self.key, version)
        return 200, {"ETag": f'"{etag}"', **self._version_header(version)}, b""

    def _copy(self):
        source, _, version_id = self.fields["x-amz-copy-source"].partition("?versionId=")
        source = urllib.parse.unquote(source).lstrip("/").partition("/")
        old = self.versions.find(source[0], source[2], version_id or None)
        replace = self.fields.get("x-amz-metadata-directive") == "REPLACE"
        headers = self._kept() if replace else dict(old.headers)
        version = Version("", old.body, self._etag(old.body), headers, dict(old.tags))
        self.versions.push(self.bucket, self.key, version)
        out = f"<ETag>&quot;{version.etag}&quot;</ETag>"
        out += f"<LastModified>{_date(version.modified)}</LastModified>"
        status, headers, body = self._xml("CopyObjectResult", out)
        return status, {**headers, **self._version_header(version)}, body

    def _get(self):
        version = self.versions.find(self.bucket, self.key, self.query.get("versionId"))
        wanted = self.fields.get("if-match")
        if wanted is not None and wanted.strip('"') != version.etag:
            raise Refused(412, "PreconditionFailed")
        checksums = self.fields.get("x-amz-checksum-mode") == "ENABLED"
        headers = {
            name: value
            for name, value in version.headers.items()
            if checksums or not name.startswith("x-amz-checksum-")
        }
        headers.setdefault("content-type", "binary/octet-stream")
        headers["ETag"] = f'"{version.etag}"'
        headers["Last-Modified"] = formatdate(version.modified, usegmt=True)
        if version.tags:
            headers["x-amz-tagging-count"] = len(version.tags)
        headers.update(self._version_header(version))
        status, body = 200, version.body
        if "partNumber" in self.query and version.parts:
            number = int(self.query["partNumber"])
            first = sum(version.parts[: number - 1])
            body, status = body[first : first + version.parts[number - 1]], 206
            headers["x-amz-mp-parts-count"] = len(version.parts)
        elif "range" in self.fields:
            first, _, last = self.fields["range"].removeprefix("bytes=").partition("-")
            body, status = body[int(first) : int(last) + 1], 206
            headers["Content-Range"] = f"bytes {first}-{last}/{len(version.body)}"
        headers["Content-Length"] = len(body)
        return status, headers, body

    def _tagging(self):
        version = self.versions.find(self.bucket, self.key, self.query.get("versionId"))
        headers = self._version_header(version)
        if self.command == "PUT":
            tags = ElementTree.fromstring(self.body).iterfind(".//{*}Tag")
            version.tags = {tag.findtext("{*}Key"): tag.findtext("{*}Value") or "" for tag in tags}
            return 200, headers, b""
        if self.command == "DELETE":
            version.tags = {}
            return 204, headers, b""
        tags = "".join(
            f"<Tag><Key>{escape(key)}</Key><Value>{escape(value)}</Value></Tag>"
            for key, value in version.tags.items()
        )
        return self._xml("Tagging", f"<TagSet>{tags}</TagSet>")

    def _lock(self):
        version = self.versions.find(self.bucket, self.key, self.query.get("versionId"))
        document = ElementTree.fromstring(self.body)
        names = {
            "Mode": "x-amz-object-lock-mode",
            "RetainUntilDate": "x-amz-object-lock-retain-until-date",
            "Status": "x-amz-object-lock-legal-hold",
        }
        for element in document:
            version.headers[names[element.tag.rpartition("}")[2]]] = element.text
        return 200, self._version_header(version), b""

    def _multipart(self):
        upload_id = self.query.get("uploadId")
        if upload_id is None:
            tags = _tags(self.fields.get("x-amz-tagging"))
            upload_id = self.versions.create_upload(self.bucket, self.key, self._kept(), tags)
            out = f"<UploadId>{upload_id}</UploadId>"
            return self._xml("InitiateMultipartUploadResult", out)
        parts = self.versions.upload(self.bucket, upload_id)[3]
        if self.command == "PUT":
            parts[int(self.query["partNumber"])] = self.body
            return 200, {"ETag": f'"{hashlib.md5(self.body).hexdigest()}"'}, b""
        if self.command == "DELETE":
            del self.versions.bucket(self.bucket).uploads[upload_id]
            return 204, {}, b""
        if self.command == "GET":
            out = "".join(
                f"<Part><PartNumber>{number}</PartNumber><Size>{len(body)}</Size>"
                f"<ETag>&quot;{hashlib.md5(body).hexdigest()}&quot;</ETag></Part>"
                for number, body in sorted(parts.items())
            )
            return self._xml("ListPartsResult", out)
        numbers = ElementTree.fromstring(self.body).iterfind(".//{*}PartNumber")
        _, version = self.versions.complete(
            self.bucket, upload_id, [int(number.text) for number in numbers]
        )
        if self.owner.opaque:
            version.etag = f"{self._etag(b'')}-{len(version.parts)}"
        status, headers, body = self._xml(
            "CompleteMultipartUploadResult", f"<ETag>&quot;{version.etag}&quot;</ETag>"
        )
        return status, {**headers, **self._version_header(version)}, body

    @staticmethod
    def _xml(root, inner):
        return 200, {"Content-Type": "application/xml"}, f"<{root}>{inner}</{root}>".encode()
