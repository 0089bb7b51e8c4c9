"""Libraries that are preloaded into the program under test, so that the machine fails as a test wants."""

import subprocess
from pathlib import Path


def build(name, directory):
    """Compiles `name`.c beside this file; yields the library."""
    source, library = Path(__file__).with_name(f"{name}.c"), Path(directory) / f"{name}.so"
    command = ["cc", "-std=gnu11", "-Wall", "-Werror", "-O1", "-shared", "-fPIC"]
    subprocess.run([*command, "-o", library, source], check=True)
    return library
