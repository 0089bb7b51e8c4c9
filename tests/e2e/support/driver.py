"""Random writers with a memory: what was acknowledged, and what may or may not have happened.

Every key belongs to one writer, so that its changes have an order that the writer knows. A change
whose answer never came (the proxy was killed) leaves two possible states; after it, and until the
next acknowledged change, either is right.
"""

import hashlib
import threading
from dataclasses import dataclass, field

from botocore.exceptions import BotoCoreError, ClientError

from . import s3

PART_BYTES = 5 * 1024 * 1024


@dataclass(frozen=True)
class State:
    """What can be seen of an object; `ABSENT` when there is none."""

    sha256: str
    content_type: str
    metadata: tuple
    parts: int  # 0: not a multipart object

    @staticmethod
    def of(body, content_type, metadata, parts=0):
        digest = hashlib.sha256(body).hexdigest()
        return State(digest, content_type, tuple(sorted(metadata.items())), parts)


ABSENT = None


@dataclass
class Key:
    """The acknowledged state of one key, and the states that unanswered changes may have left."""

    bucket: str
    name: str
    acknowledged: State | None = ABSENT
    possible: list = field(default_factory=list)

    def accepts(self, state):
        return state == self.acknowledged or state in self.possible


class Writer(threading.Thread):
    """Does random operations on its own keys until told to stop; stops at the first failure.

    `run_round` style use: one Writer per round, on the same list of Key objects.
    """

    def __init__(self, endpoint, keys, rng, stop):
        super().__init__(daemon=True)
        self.client = s3.client(endpoint, read_timeout=20)
        self.keys = keys
        self.rng = rng
        self.stop = stop
        self.done = 0
        self.refusals = []
        self.crash = None

    def run(self):
        try:
            while not self.stop.is_set():
                self.step()
                self.done += 1
        except (BotoCoreError, ConnectionError):
            # The proxy is gone; the change in hand is unanswered and noted as such.
            return
        except ClientError as error:
            self.refusals.append(f"{error.operation_name}: {error}")
        except Exception as error:  # noqa: BLE001 - raised again by the test
            self.crash = error

    def step(self):
        operations = (
            (self.put, 40),
            (self.overwrite_hot, 20),
            (self.delete, 14),
            (self.copy, 10),
            (self.change_metadata, 6),
            (self.delete_several, 5),
            (self.multipart, 3),
            (self.abort_multipart, 2),
        )
        choice = self.rng.choices(*zip(*operations, strict=True))[0]
        choice(self.rng.choice(self.keys))

    def change(self, pairs, action):
        """`pairs` of (key, state it will have): noted before, settled after the answer."""
        for key, state in pairs:
            key.possible.append(state)
        action()
        for key, state in pairs:
            key.acknowledged = state
            key.possible.clear()

    def put(self, key):
        size = self.rng.choice((0, 1, 100, 5_000, 70_000, 400_000))
        body = self.rng.randbytes(size)
        content_type = self.rng.choice(("text/plain", "image/png", "application/json"))
        metadata = {"n": str(self.rng.randrange(1000))}
        self.change(
            [(key, State.of(body, content_type, metadata))],
            lambda: self.client.put_object(
                Bucket=key.bucket,
                Key=key.name,
                Body=body,
                ContentType=content_type,
                Metadata=metadata,
            ),
        )

    def overwrite_hot(self, _):
        """One key that is written again and again, quicker than it can be mirrored."""
        self.put(self.keys[0])

    def delete(self, key):
        self.change(
            [(key, ABSENT)],
            lambda: self.client.delete_object(Bucket=key.bucket, Key=key.name),
        )

    def delete_several(self, key):
        chosen = [each for each in self.keys if each.bucket == key.bucket]
        chosen = self.rng.sample(chosen, min(3, len(chosen)))
        names = [{"Key": each.name} for each in chosen]
        self.change(
            [(each, ABSENT) for each in chosen],
            lambda: self.client.delete_objects(
                Bucket=key.bucket, Delete={"Objects": names, "Quiet": self.rng.random() < 0.5}
            ),
        )

    def copy(self, key):
        """Source and destination are both this writer's own, so that the result is known."""
        sources = [
            each
            for each in self.keys
            if each is not key and each.acknowledged is not ABSENT and not each.possible
        ]
        if not sources:
            return
        source = self.rng.choice(sources)
        was = source.acknowledged
        self.change(
            [(key, State(was.sha256, was.content_type, was.metadata, 0))],
            lambda: self.client.copy_object(
                Bucket=key.bucket,
                Key=key.name,
                CopySource={"Bucket": source.bucket, "Key": source.name},
            ),
        )

    def change_metadata(self, key):
        if key.acknowledged is ABSENT or key.possible:
            return
        metadata = {"changed": str(self.rng.randrange(1000))}
        state = State(key.acknowledged.sha256, "text/x-changed", tuple(metadata.items()), 0)
        self.change(
            [(key, state)],
            lambda: self.client.copy_object(
                Bucket=key.bucket,
                Key=key.name,
                CopySource={"Bucket": key.bucket, "Key": key.name},
                MetadataDirective="REPLACE",
                ContentType="text/x-changed",
                Metadata=metadata,
            ),
        )

    def multipart(self, key):
        first = self.rng.randbytes(1000) * (PART_BYTES // 1000 + 1)
        last = self.rng.randbytes(self.rng.randrange(1, 50_000))
        state = State.of(first + last, "video/mp4", {"in": "parts"}, 2)
        self.change(
            [(key, state)],
            lambda: s3.put_multipart(
                self.client,
                key.bucket,
                key.name,
                [first, last],
                ContentType="video/mp4",
                Metadata={"in": "parts"},
            ),
        )

    def abort_multipart(self, key):
        """Changes nothing, whatever happens in between."""
        where = {"Bucket": key.bucket, "Key": key.name}
        upload = self.client.create_multipart_upload(**where)["UploadId"]
        self.client.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"never completed")
        self.client.abort_multipart_upload(**where, UploadId=upload)


def observe(client, key):
    """The State of `key` as main has it."""
    try:
        answer = client.get_object(Bucket=key.bucket, Key=key.name)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return ABSENT
        raise
    etag = answer["ETag"].strip('"')
    parts = int(etag.partition("-")[2]) if "-" in etag else 0
    return State.of(answer["Body"].read(), answer["ContentType"], answer["Metadata"], parts)
