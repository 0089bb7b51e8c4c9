"""Did the mirror become equal to main, for everything that went through the proxy?"""

from botocore.exceptions import ClientError
from support import compare, s3
from support.poll import TimedOut

#: The backlog must be gone this long after the last write.
DRAIN_SECONDS = 60


def mirror_faults(lab, buckets):
    """(objects compared, differences) over all these buckets that still exist on main."""
    faults = []
    try:
        lab.proxy.wait_drained(DRAIN_SECONDS)
    except TimedOut as error:
        faults.append(str(error).splitlines()[0])
    main = s3.client(lab.main.endpoint, lab.main.credentials)
    mirror = s3.client(lab.mirror.endpoint, lab.mirror.credentials)
    objects = 0
    for bucket in buckets:
        try:
            objects += len(s3.every_key(main, bucket))
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchBucket":
                raise
            continue
        faults += [f"{bucket}: {line}" for line in compare.mirror_differences(main, mirror, bucket)]
    return objects, faults
