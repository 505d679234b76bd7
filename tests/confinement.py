"""Runs a command with the rights that a unit leaves it, as far as that can be had without systemd.

Its user, its one capability, a file system that cannot be written, its address families, its system calls.
`confined` gives the command; the rest happens in the processes that this starts.
"""

import ctypes
import os
import platform
import re
import shutil
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["confined", "needs_confinement"]

_NUMBERS = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
_NOBODY = "65534"

needs_confinement = pytest.mark.skipif(
    os.geteuid() != 0
    or platform.machine() != "x86_64"
    or not all(map(shutil.which, ("setpriv", "unshare", "systemd-analyze")))
    or not _NUMBERS.exists(),
    reason="needs root on x86-64, setpriv, unshare, systemd-analyze and the kernel's headers",
)


def confined(unit: Path, folder: Path, command: list[str]) -> list[str]:
    """The command that runs `command` with the rights of that unit; it can write to `folder` alone."""
    lines = unit.read_text().splitlines()
    capabilities = _values(lines, "AmbientCapabilities")
    names = [name.lower().removeprefix("cap_") for name in capabilities]
    caps = ",".join(["-all", *(f"+{name}" for name in names)])
    shutil.chown(folder, int(_NOBODY), int(_NOBODY))
    calls = ",".join(map(str, sorted(_numbers(_allowed(_values(lines, "SystemCallFilter"))))))
    families = ",".join(str(_family(name)) for name in _values(lines, "RestrictAddressFamilies"))
    here = [sys.executable, str(Path(__file__))]
    drop = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--nnp"]
    drop += [f"--inh-caps={caps}", f"--ambient-caps={caps}", f"--bounding-set={caps}"]
    return [
        *("unshare", "--mount", *here, "mount", str(folder)),
        *(*drop, *here, "filter", calls, families),
        *command,
    ]


def _values(lines: list[str], key: str) -> list[str]:
    """All words of a key in their order; a `~` stays before each word that it is for."""
    words: list[str] = []
    for line in lines:
        if line.startswith(f"{key}="):
            value = line.partition("=")[2]
            no = "~" if value.startswith("~") else ""
            words += [no + word for word in value.removeprefix("~").split()]
    return words


def _family(name: str) -> int:
    import socket

    return int(getattr(socket, name))


def _allowed(words: list[str]) -> set[str]:
    calls: set[str] = set()
    for word in words:
        listed = _listed(word.removeprefix("~"))
        calls = calls - listed if word.startswith("~") else calls | listed
    return calls


def _listed(word: str) -> set[str]:
    """The system calls in a group of systemd's, or the one of that name."""
    if not word.startswith("@"):
        return {word}
    told = subprocess.check_output(["systemd-analyze", "syscall-filter", word], text=True)
    words = [line.strip() for line in told.splitlines()[1:] if line.strip() and "#" not in line]
    return set().union(*(_listed(inner) for inner in words if inner != word))


def _numbers(names: set[str]) -> set[int]:
    known = dict(re.findall(r"#define __NR_(\w+) (\d+)", _NUMBERS.read_text()))
    return {int(known[name]) for name in names if name in known}


# In the processes that are started.


def _leave_only(folder: str) -> None:
    """Everything is read-only but this folder, see mount_setattr(2)."""
    mount_setattr, here, recursive, read_only = 442, -100, 0x8000, 1
    libc = ctypes.CDLL(None, use_errno=True)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    _open_the_way(folder)
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    for path, attributes in (("/", (read_only, 0, 0, 0)), (folder, (0, read_only, 0, 0))):
        packed = struct.pack("=4Q", *attributes)
        if libc.syscall(mount_setattr, here, path.encode(), recursive, packed, len(packed)):
            raise OSError(ctypes.get_errno(), f"mount_setattr of {path}")
    os.chdir(folder)


def _open_the_way(folder: str) -> None:
    """Interpreter and program may lie in a home directory, which other users cannot pass through."""
    wanted = {Path(sys.base_prefix), Path(sys.prefix), Path(__file__).parents[1]}
    closed = {
        path: parent
        for path in wanted
        for parent in list(path.parents)[-2::-1]
        if not parent.stat().st_mode & stat.S_IXOTH
    }
    for number, path in enumerate(closed):
        Path(folder, f"way{number}").mkdir()
        subprocess.run(["mount", "--bind", path, f"{folder}/way{number}"], check=True)
    for parent in set(closed.values()):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", parent], check=True)
    for number, path in enumerate(closed):
        path.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--move", f"{folder}/way{number}", path], check=True)
        Path(folder, f"way{number}").rmdir()


def _filter(calls: list[int], families: list[int]) -> None:
    """Only these system calls and address families from now on, see seccomp(2); others fail."""
    load, equal, give = 0x20, 0x15, 0x06
    allow, refuse, no_family = 0x7FFF0000, 0x00050001, 0x00050061
    number_at, first_argument_at, socket_call = 0, 16, 41
    program = [(load, 0, 0, number_at), (equal, 0, 2 * len(families) + 2, socket_call)]
    program.append((load, 0, 0, first_argument_at))
    for family in families:
        program += [(equal, 0, 1, family), (give, 0, 0, allow)]
    program.append((give, 0, 0, no_family))
    for call in calls:
        program += [(equal, 0, 1, call), (give, 0, 0, allow)]
    program.append((give, 0, 0, refuse))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    header = struct.pack("@HP", len(program), ctypes.addressof(code))
    set_seccomp, by_filter = 22, 2
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(set_seccomp, by_filter, header, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    step, *rest = sys.argv[1:]
    if step == "mount":
        _leave_only(rest.pop(0))
    else:
        _filter(*([int(number) for number in rest.pop(0).split(",")] for _ in range(2)))
    os.execvp(rest[0], rest)
