"""What a mirrored write costs: requests and bytes at main and at the mirror, counted at relays.

Prints the table of `docs/cost.md`, and holds what that page promises of small objects.
"""

import time

import pytest
from support import s3
from support.lab import Lab
from support.versioned import VersionedStore

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


def overwrite(client, where):
    client.put_object(
        Bucket=where["Bucket"], Key="source", Body=b"z" * 4 * KIB, ContentType="text/plain"
    )


def delete_version(client, where):
    source = {"Bucket": where["Bucket"], "Key": "source"}
    client.delete_object(**source, VersionId=client.head_object(**source)["VersionId"])


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


#: Likewise, in a bucket with versioning on both sides.
VERSIONED_CASES = (
    ("version of 4 KiB, first of its key", put(4 * KIB), 1, "memory"),
    ("version of 4 KiB, one more of its key", overwrite, 1, "memory"),
    ("version of 4 KiB, not kept", overwrite, 1, "none"),
    ("version of 5 + 1 MiB in parts", multipart, 4, "memory"),
    ("delete marker", delete, 1, "memory"),
    ("delete of a version by its ID", delete_version, 2, "memory"),
)


class Counted:
    """A proxy between counting relays, warmed up."""

    def __init__(self, lab, fence, tee, versioned=False):
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
        if versioned:
            lab.s3_mirror.create_bucket(Bucket=self.bucket)
            for store in (lab.s3_main, lab.s3_mirror):
                store.put_bucket_versioning(
                    Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"}
                )
        self.client.put_object(Bucket=self.bucket, Key="warm", Body=b"x")
        self.proxy.wait_drained()

    def measure(self, number, action, own):
        """(extra requests at main, bytes read from main, requests at the mirror, bytes to it)"""
        # Other bytes each time, as versions are told by what they hold.
        body = bytes([ord("A") + number]) * 4 * KIB
        self.client.put_object(Bucket=self.bucket, Key="source", Body=body)
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


def count_all(lab, cases, versioned=False):
    """Counts and prints; {(name, fence): what was counted}"""
    found = {}
    for fence in ("overlap", "always"):
        for tee in {case[3] for case in cases}:
            counted = Counted(lab, fence, tee, versioned)
            for number, (name, action, own, wanted) in enumerate(cases):
                if wanted == tee:
                    found[name, fence] = counted.measure(number, action, own)
    print(
        "\n| Write | more at main, `overlap` | `always` | bytes read | at the mirror | bytes sent |"
    )
    print("|---|---|---|---|---|---|")
    for name, *_ in cases:
        overlap, always = found[name, "overlap"], found[name, "always"]
        at_mirror = ", ".join(overlap[2])
        if always[2] != overlap[2]:
            at_mirror += f"; `always`: {', '.join(always[2])}"
        print(
            f"| {name} | {extra(overlap)} | {extra(always)} | {overlap[1]:,} | {at_mirror} | "
            f"{overlap[3]:,} |"
        )
    return found


@pytest.fixture(scope="module")
def counts(module_lab):
    return count_all(module_lab, CASES)


@pytest.fixture(scope="module")
def version_counts(cluster, tmp_path_factory):
    stores = [VersionedStore("main"), VersionedStore("mirror")]
    lab = Lab(*stores, cluster, tmp_path_factory.mktemp("versions"))
    yield count_all(lab, VERSIONED_CASES, versioned=True)
    lab.close()
    for store in stores:
        store.close()


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


@pytest.mark.parametrize("name", [case[0] for case in VERSIONED_CASES[:2]])
def test_a_kept_version_of_the_only_writer_costs_one_put_and_nothing_else(version_counts, name):
    main, read, mirror, _, own = version_counts[name, "overlap"]
    assert mirror == ["PUT"] and main[own:] == [] and read == 0


@pytest.mark.parametrize("name", [case[0] for case in VERSIONED_CASES[:2]])
def test_with_other_writers_both_lists_of_versions_are_read_beside(version_counts, name):
    main, _, mirror, _, own = version_counts[name, "always"]
    assert mirror == ["GET", "PUT"] and main[own:] == ["GET", "HEAD"]


def test_a_delete_marker_costs_one_delete(version_counts):
    assert version_counts["delete marker", "overlap"][2] == ["DELETE"]


def test_a_version_is_read_back_once_where_it_was_not_kept(version_counts):
    main, read, mirror, sent, own = version_counts["version of 4 KiB, not kept", "overlap"]
    assert main[own:].count("GET") <= 2 and 4 * KIB <= read < 16 * KIB
    assert mirror[-1] == "PUT" and 4 * KIB <= sent < 8 * KIB
