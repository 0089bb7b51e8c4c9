"""How long requests take: small writes and reads, one after another, every one must succeed."""

import statistics
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Latency:
    """Seconds."""

    median: float
    p95: float
    worst: float

    def __str__(self):
        return (
            f"median {self.median * 1e3:.1f} ms, p95 {self.p95 * 1e3:.1f} ms, "
            f"worst {self.worst * 1e3:.1f} ms"
        )


def measure(client, bucket, prefix, count=150):
    """`count` PUTs of 4 KiB, each read back."""
    times = []
    body = b"x" * 4096
    for number in range(count):
        key = f"{prefix}/{number}"
        started = time.perf_counter()
        client.put_object(Bucket=bucket, Key=key, Body=body)
        seen = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        times.append(time.perf_counter() - started)
        assert seen == body
    times.sort()
    return Latency(statistics.median(times), times[int(count * 0.95)], times[-1])


def assert_undisturbed(name, baseline, now):
    """Generous against a busy machine, far below anything that waits for a time-out or a peer."""
    print(f"{name}: {now} (baseline {baseline})")
    assert now.median <= 3 * baseline.median + 0.010, f"{name}: {now}, baseline {baseline}"
    assert now.p95 <= 4 * baseline.p95 + 0.050, f"{name}: {now}, baseline {baseline}"
    assert now.worst <= 5 * baseline.worst + 1.0, f"{name}: {now}, baseline {baseline}"
