"""What a mirrored write costs: requests and bytes at main and at the mirror, counted at relays.

Prints the table of `docs/cost.md`, and holds what that page promises of small objects.
"""

import time

import pytest
from support import s3

from plan import Script
from relay import Relay

KIB, MIB = 1024, 1024 * 1024
PART = 5 * MIB

#: Settings of the tee: bodies kept in memory, in files, or not at all.
TEES = {
    "memory": {},
    "spool": {"TEE_MEMORY_BYTES": 0},
    "none": {"TEE_MEMORY_BYTES": 0, "TEE_SPOOL_BYTES": 0},
}


def put(size):
    return lambda client, where: client.put_object(
        **where, Body=b"x" * size, ContentType="text/plain"
    )


def untyped(client, where):
    client.put_object(**where, Body=b"x" * 4 * KIB)


def tagged(client, where):
    client.put_object(**where, Body=b"x" * 4 * KIB, ContentType="text/plain", Tagging="a=b")


def multipart(client, where):
    s3.put_multipart(
        client, *where.values(), [b"a" * PART, b"b" * MIB], ContentType="text/plain"
    )


def copy(client, where):
    client.copy_object(**where, CopySource={"Bucket": where["Bucket"], "Key": "source"})


def self_copy(client, where):
    source = {"Bucket": where["Bucket"], "Key": "source"}
    client.copy_object(
        **source, CopySource=source, MetadataDirective="REPLACE", Metadata={"n": where["Key"]}
    )


def tags(client, where):
    tag_set = [{"Key": "n", "Value": where["Key"]}]
    client.put_object_tagging(Bucket=where["Bucket"], Key="source", Tagging={"TagSet": tag_set})


def delete(client, where):
    client.delete_object(Bucket=where["Bucket"], Key="source")


#: name, what the client does, its own requests to main, tee
CASES = (
    ("put 0 bytes", put(0), 1, "memory"),
    ("put 4 KiB", put(4 * KIB), 1, "memory"),
    ("put 4 KiB, no `Content-Type`", untyped, 1, "memory"),
    ("put 4 KiB with a tag", tagged, 1, "memory"),
    ("put 1 MiB", put(MIB), 1, "memory"),
    ("put 16 MiB", put(16 * MIB), 1, "memory"),
    ("put 1 MiB, kept in a file", put(MIB), 1, "spool"),
    ("put 1 MiB, not kept", put(MIB), 1, "none"),
    ("multipart 5 + 1 MiB", multipart, 4, "memory"),
    ("multipart 5 + 1 MiB, not kept", multipart, 4, "none"),
    ("copy of 4 KiB", copy, 1, "memory"),
    ("copy onto itself, new metadata, 4 KiB", self_copy, 1, "memory"),
    ("set tags", tags, 1, "memory"),
    ("delete", delete, 1, "memory"),
)


class Counted:
    """A proxy between counting relays, warmed up."""

    def __init__(self, lab, fence, tee):
        self.main = lab.closing(Relay(lab.main.address, Script()))
        self.mirror = lab.closing(Relay(lab.mirror.address, Script()))
        self.proxy = lab.proxy(
            lab.postgres().settings(),
            main_endpoint=self.main.endpoint,
            mirror_endpoint=self.mirror.endpoint,
            FENCE=fence,
            **TEES[tee],
        )
        self.bucket = lab.bucket("cost")
        self.client = lab.client(self.proxy)
        self.client.put_object(Bucket=self.bucket, Key="warm", Body=b"x")
        self.proxy.wait_drained()

    def measure(self, number, action, own):
        """(extra requests at main, bytes read from main, requests at the mirror, bytes to it)"""
        self.client.put_object(Bucket=self.bucket, Key="source", Body=b"y" * 4 * KIB)
        self.proxy.wait_drained()
        marks = len(self.main.requests), len(self.mirror.requests)
        read, written = self.main.bytes_from_store, self.mirror.bytes_to_store
        action(self.client, {"Bucket": self.bucket, "Key": f"key{number}"})
        self.proxy.wait_drained()
        # Nothing more may come once all is drained.
        time.sleep(0.3)
        return (
            [method for method, _ in self.main.requests[marks[0] :]],
            self.main.bytes_from_store - read,
            [method for method, _ in self.mirror.requests[marks[1] :]],
            self.mirror.bytes_to_store - written,
            own,
        )


@pytest.fixture(scope="module")
def counts(module_lab):
    found = {}
    for fence in ("overlap", "always"):
        for tee in TEES:
            counted = Counted(module_lab, fence, tee)
            for number, (name, action, own, wanted) in enumerate(CASES):
                if wanted == tee:
                    found[name, fence] = counted.measure(number, action, own)
    print(
        "\n| Write | more at main, `overlap` | `always` | bytes read | at the mirror | bytes sent |"
    )
    print("|---|---|---|---|---|---|")
    for name, *_ in CASES:
        overlap, always = found[name, "overlap"], found[name, "always"]
        print(
            f"| {name} | {extra(overlap)} | {extra(always)} | {overlap[1]:,} | "
            f"{', '.join(overlap[2])} | {overlap[3]:,} |"
        )
    return found


def extra(count):
    return len(count[0]) - count[4]


@pytest.mark.parametrize("fence", ["overlap", "always"])
@pytest.mark.parametrize("name", ["put 0 bytes", "put 4 KiB", "put 1 MiB", "put 16 MiB"])
def test_a_kept_body_costs_the_mirror_one_put_and_main_at_most_one_head(counts, name, fence):
    main, read, mirror, _, own = counts[name, fence]
    assert mirror == ["PUT"]
    assert main[own:] == ([] if fence == "overlap" else ["HEAD"])
    assert read == 0


@pytest.mark.parametrize("fence", ["overlap", "always"])
def test_a_multipart_object_whose_parts_were_kept_is_not_read_back(counts, fence):
    main, read, mirror, sent, own = counts["multipart 5 + 1 MiB", fence]
    assert mirror[0] == mirror[-1] == "POST" and mirror[1:-1] == ["PUT", "PUT"]
    assert main[own:] == ([] if fence == "overlap" else ["HEAD"])
    # The client's own answers are all that was read.
    assert read < 4 * KIB and PART + MIB <= sent < PART + MIB + 4 * KIB


def test_a_delete_costs_the_mirror_one_delete(counts):
    assert counts["delete", "overlap"][2] == ["DELETE"]


def test_a_change_of_tags_alone_reads_and_sends_no_body(counts):
    _, read, _, sent, _ = counts["set tags", "overlap"]
    assert read < 4 * KIB and sent < 4 * KIB
