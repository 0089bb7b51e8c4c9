"""Threads that do random operations on a small set of keys through one or several proxies."""

import hashlib
import threading
from collections import Counter
from urllib.parse import urlencode

from botocore.exceptions import BotoCoreError, ClientError
from support import s3

from model import ABSENT

PART_BYTES = 5 * 1024 * 1024
SIZES = (0, 1, 100, 5_000, 70_000, 400_000)
TAG_VALUES = ("", "a", "b", "ü & =")


def digest(body):
    return hashlib.sha256(body).hexdigest()


class Driver(threading.Thread):
    """One client thread. `own` keys are followed by the model, `shared` ones are raced for."""

    OPERATIONS = {
        "put": 30,
        "put_hot": 12,
        "put_with_everything": 12,
        "multipart": 3,
        "copy": 10,
        "change_metadata": 8,
        "delete": 9,
        "delete_several": 5,
        "put_tags": 7,
        "delete_tags": 4,
    }

    def __init__(self, endpoints, own, shared, rng, stop):
        super().__init__(daemon=True)
        self.clients = [
            s3.client(endpoint, read_timeout=10, connect_timeout=3) for endpoint in endpoints
        ]
        self.own, self.shared, self.rng, self.stop = own, shared, rng, stop
        self.operations, self.answers = Counter(), Counter()
        self.crash = None

    def run(self):
        try:
            while not self.stop.is_set():
                self.step()
        except Exception as error:  # noqa: BLE001 - raised again by the run
            self.crash = error

    def step(self):
        self.client = self.rng.choice(self.clients)
        keys = self.shared if self.shared and self.rng.random() < 0.45 else self.own
        name = self.rng.choices(*zip(*self.OPERATIONS.items(), strict=True))[0]
        self.operations[name] += 1
        getattr(self, name)(keys)

    def attempt(self, action, needs="ResponseMetadata"):
        """(answer, answered): (None, True) is a refusal, which changed nothing.

        boto3 takes an XML answer that broke off before its first byte for an empty success, so an
        answer without the field it `needs` counts as none.
        """
        try:
            answer = action()
            if needs not in answer:
                raise ConnectionError("the answer broke off")
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if 400 <= status < 500:
                self.answers["refused"] += 1
                return None, True
            self.answers["5xx or error in a 200"] += 1
            self.stop.wait(0.02)
            return None, False
        except (BotoCoreError, OSError):
            self.answers["no answer"] += 1
            self.stop.wait(0.02)
            return None, False
        self.answers["done"] += 1
        return answer, True

    def change(self, key, effect, action, **options):
        answer, answered = self.attempt(action, **options)
        if answer is not None or not answered:
            key.changed(effect, answered)

    def where(self, key):
        return {"Bucket": key.bucket, "Key": key.name}

    def body(self):
        return self.rng.randbytes(self.rng.choice(SIZES))

    def attributes(self, rich):
        """(parameters, what the model remembers)."""
        parameters = {
            "ContentType": self.rng.choice(("text/plain", "image/png", "application/json")),
            "Metadata": {"n": str(self.rng.randrange(100_000))},
        }
        if rich:
            parameters |= {
                "CacheControl": f"max-age={self.rng.randrange(1000)}",
                "ContentDisposition": 'attachment; filename="a b.txt"',
                "ContentLanguage": self.rng.choice(("de", "ja")),
                "ContentEncoding": "x-custom",
            }
            parameters["Metadata"]["second"] = "with spaces, and: colons"
        return parameters, remembered(parameters)

    def tags(self):
        count = self.rng.choice((1, 1, 2, 3))
        return tuple((f"t{n}", self.rng.choice(TAG_VALUES)) for n in range(count))

    def put(self, keys, key=None, rich=False):
        key = key or self.rng.choice(keys)
        body = self.body()
        parameters, attributes = self.attributes(rich)
        tags = self.tags() if rich and self.rng.random() < 0.7 else ()
        effect = {"body": digest(body), "attributes": attributes, "tags": tags}
        if tags:
            parameters["Tagging"] = urlencode(tags)
        self.change(
            key,
            effect,
            lambda: self.client.put_object(**self.where(key), Body=body, **parameters),
        )

    def put_hot(self, keys):
        """One key that is written again and again, quicker than it can be mirrored."""
        for _ in range(self.rng.randrange(1, 5)):
            self.put(keys, key=keys[0])

    def put_with_everything(self, keys):
        self.put(keys, rich=True)

    def multipart(self, keys):
        key = self.rng.choice(keys)
        first = self.rng.randbytes(1000) * (PART_BYTES // 1000 + 1)
        parts = [first, self.rng.randbytes(self.rng.randrange(1, 50_000))]
        parameters, attributes = self.attributes(rich=True)
        where = self.where(key)
        created, _ = self.attempt(
            lambda: self.client.create_multipart_upload(**where, **parameters), "UploadId"
        )
        if created is None:
            return
        upload = {**where, "UploadId": created["UploadId"]}
        done = []
        for number, part in enumerate(parts, start=1):
            answer, _ = self.attempt(
                lambda number=number, part=part: self.client.upload_part(
                    **upload, PartNumber=number, Body=part
                ),
                "ETag",
            )
            if answer is None:
                self.attempt(lambda: self.client.abort_multipart_upload(**upload))
                return
            done.append({"PartNumber": number, "ETag": answer["ETag"]})
        effect = {"body": digest(b"".join(parts)), "attributes": attributes, "tags": ()}
        self.change(
            key,
            effect,
            lambda: self.client.complete_multipart_upload(
                **upload, MultipartUpload={"Parts": done}
            ),
            needs="ETag",
        )

    def copy(self, keys):
        key, source = self.rng.choice(keys), self.rng.choice(keys)
        if key is source:
            return
        answer, answered = self.attempt(
            lambda: self.client.copy_object(**self.where(key), CopySource=self.where(source)),
            "CopyObjectResult",
        )
        if answer is not None or not answered:
            key.copied(source, answered)

    def change_metadata(self, keys):
        """The key is copied onto itself with other attributes: its bytes and tags stay."""
        key = self.rng.choice(keys)
        parameters, attributes = self.attributes(rich=self.rng.random() < 0.5)
        self.change(
            key,
            {"attributes": attributes},
            lambda: self.client.copy_object(
                **self.where(key),
                CopySource=self.where(key),
                MetadataDirective="REPLACE",
                **parameters,
            ),
            needs="CopyObjectResult",
        )

    def delete(self, keys):
        key = self.rng.choice(keys)
        self.change(key, {"body": ABSENT}, lambda: self.client.delete_object(**self.where(key)))

    def delete_several(self, keys):
        chosen = self.rng.sample(keys, min(3, len(keys)))
        chosen = [key for key in chosen if key.bucket == chosen[0].bucket]
        names = [{"Key": key.name} for key in chosen]
        quiet = self.rng.random() < 0.5
        answer, answered = self.attempt(
            lambda: self.client.delete_objects(
                Bucket=chosen[0].bucket, Delete={"Objects": names, "Quiet": quiet}
            )
        )
        if answer is None and answered:
            return
        failed = {each["Key"] for each in (answer or {}).get("Errors", [])}
        for key in chosen:
            key.changed({"body": ABSENT}, answered and key.name not in failed)

    def put_tags(self, keys):
        key, tags = self.rng.choice(keys), self.tags()
        tag_set = [{"Key": name, "Value": value} for name, value in tags]
        self.change(
            key,
            {"tags": tags},
            lambda: self.client.put_object_tagging(**self.where(key), Tagging={"TagSet": tag_set}),
        )

    def delete_tags(self, keys):
        key = self.rng.choice(keys)
        self.change(key, {"tags": ()}, lambda: self.client.delete_object_tagging(**self.where(key)))


ATTRIBUTES = (
    "ContentType",
    "CacheControl",
    "ContentDisposition",
    "ContentLanguage",
    "ContentEncoding",
)


def remembered(answer):
    """Attributes as the model compares them, of a request's parameters or of an answer."""
    metadata = tuple(sorted(answer.get("Metadata", {}).items()))
    return (*(answer.get(name) for name in ATTRIBUTES), metadata)


def observe(client, key):
    """What main holds, by aspect."""
    where = {"Bucket": key.bucket, "Key": key.name}
    try:
        answer = client.get_object(**where)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return {"body": ABSENT}
        raise
    tags = client.get_object_tagging(**where)["TagSet"]
    return {
        "body": digest(answer["Body"].read()),
        "attributes": remembered(answer),
        "tags": tuple(sorted((tag["Key"], tag["Value"]) for tag in tags)),
    }
