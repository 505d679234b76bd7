"""Small file systems in a mount namespace of their own, which nobody else sees."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.reliability.command import needs_root
from tests.reliability.row import Skipped

__all__ = ["Disk", "fill_up", "mounted"]


class Disk(NamedTuple):
    """A file system that is mounted in another namespace.

    Attributes:
        inside: its path there.
        outside: its path here.
        enter: the prefix of a command that is to see it.
    """

    inside: Path
    outside: Path
    enter: Sequence[str]

    def remount(self, options: str) -> str | None:
        """Mounts it anew with these options; the reason where that cannot be."""
        done = subprocess.run(
            [*self.enter, "mount", "-o", f"remount,{options}", str(self.inside)],
            check=False,
            capture_output=True,
            text=True,
        )
        return done.stderr.strip() or None if done.returncode else None


@contextmanager
def mounted(folder: Path, size_bytes: int, options: str = "rw", image: bool = False) -> Iterator[Disk]:
    """Mounts a tmpfs, or ext4 in an image file, over `folder` for as long as this lasts.

    Raises:
        Skipped: this machine or this user cannot.
    """
    needs_root("a small disk")
    if not all(map(shutil.which, ("unshare", "nsenter", "mount", *(["mkfs.ext4"] if image else [])))):
        raise Skipped("a small disk needs the commands unshare, nsenter, mount and mkfs.ext4")
    folder.mkdir(exist_ok=True)
    mount = f"mount -t tmpfs -o size={size_bytes},{options} tmpfs {folder}"
    if image:
        file = folder.with_name(f"{folder.name}.img")
        make = f"truncate -s {size_bytes} {file} && mkfs.ext4 -q {file}"
        mount = f"{make} && mount -o loop,{options} {file} {folder}"
    # The namespace lives as long as this process, and with it the mount; it ends with its standard input, so
    # that it is not left behind even where this process is killed.
    holder = subprocess.Popen(
        [
            "unshare",
            "-m",
            "--propagation",
            "private",
            "sh",
            "-c",
            f"{mount} && echo ready && exec cat",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stderr is not None
    try:
        if holder.stdout.readline() != "ready\n":
            raise Skipped(f"a small disk cannot be mounted here: {holder.stderr.read().strip()}")
        outside = Path(f"/proc/{holder.pid}/root") / folder.relative_to("/")
        yield Disk(folder, outside, ["nsenter", "-t", str(holder.pid), "-m", f"--wd={os.getcwd()}", "--"])
    finally:
        holder.kill()
        holder.communicate()


def fill_up(path: Path) -> None:
    """Makes a file of all the space that is left on its disk."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
