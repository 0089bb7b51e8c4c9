"""A disk that is full: the kernel refuses every write to a file of the running process."""

import resource


class Disk:
    """Can the proxy's process write to files?"""

    def __init__(self, proxy):
        self.pid = proxy.process.pid
        self.before = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)

    def full(self):
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (0, self.before[1]))

    def free(self):
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, self.before)


def start(lab, settings=None, **options):
    """A proxy whose disk can be full."""
    proxy = lab.proxy(settings, start=False, **options)
    # The signal that comes with the refused write stays ignored, as it is in this process: the
    # write fails with an error, like one on a full disk.
    proxy.process.popen_options["restore_signals"] = False
    return proxy.start()
