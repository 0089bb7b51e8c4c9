"""Waiting: always for a condition, never for a length of time."""

import time


class TimedOut(AssertionError):
    """The condition did not come true before the deadline."""


def until(condition, what, timeout=20.0, interval=0.02):
    """Polls `condition` until it returns something true and returns that.

    `what` says what is waited for. It may be a callable, which is then asked only at the deadline,
    so that the message can hold the last state seen. Exceptions of `condition` are not swallowed.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            text = what() if callable(what) else what
            raise TimedOut(f"waited {timeout:g} s in vain for: {text}")
        time.sleep(interval)
