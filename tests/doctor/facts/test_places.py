"""Addresses and folders, real ones, which are afterwards as they were."""

import os
import socket
from pathlib import Path

import pytest
import zmq

from ecustream.config import PublishConfig
from ecustream.doctor.facts.places import address_trouble, read_folder
from ecustream.publish.bind import bind
from ecustream.publish.journal import Journal

CONFIG = PublishConfig()


class TestAddress:
    def test_free_port(self) -> None:
        """A port that nobody has is free, twice: it is given back."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            url = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        assert address_trouble(url, "--pub", CONFIG) is None
        assert address_trouble(url, "--pub", CONFIG) is None

    def test_port_in_use(self) -> None:
        """A port that somebody listens on is in use."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            url = f"tcp://127.0.0.1:{other.getsockname()[1]}"
            assert "in use" in (address_trouble(url, "--pub", CONFIG) or "")

    def test_other_machines(self) -> None:
        """An address that other machines reach needs keys or permission, as in a run."""
        url = "tcp://0.0.0.0:*"
        assert "other machines" in (address_trouble(url, "--pub", CONFIG) or "")
        assert address_trouble(url, "--pub", PublishConfig(allow_remote=True)) is None

    def test_abstract(self, tmp_path: Path) -> None:
        """An abstract ipc address is free, or in use."""
        url = f"ipc://@{tmp_path}"
        assert address_trouble(url, "--pub", CONFIG) is None
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(f"\0{tmp_path}")
            other.listen()
            assert "in use" in (address_trouble(url, "--pub", CONFIG) or "")

    def test_ipc_leaves_nothing(self, tmp_path: Path) -> None:
        """An ipc path is free, and neither it nor a lock is there afterwards."""
        assert address_trouble(f"ipc://{tmp_path}/pub", "--pub", CONFIG) is None
        assert list(tmp_path.iterdir()) == []

    def test_ipc_in_use(self, tmp_path: Path) -> None:
        """A path where an ecustream listens is in use, and goes on to be; a stale one is free."""
        url = f"ipc://{tmp_path}/pub"
        with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
            lock = bind(publisher, url, "--pub", allow_remote=False)
            assert lock is not None
            assert "in use" in (address_trouble(url, "--pub", CONFIG) or "")
        # Nobody answers any more; the lock alone says that the publisher is not gone yet.
        assert "in use" in (address_trouble(url, "--pub", CONFIG) or "")
        os.close(lock)
        assert address_trouble(url, "--pub", CONFIG) is None

    def test_ipc_of_others(self, tmp_path: Path) -> None:
        """Where another program listens without our lock, or a file or no folder is, there is trouble."""
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(tmp_path / "other"))
            other.listen()
            assert "in use" in (address_trouble(f"ipc://{tmp_path}/other", "--pub", CONFIG) or "")
        (tmp_path / "file").touch()
        assert "not a socket" in (address_trouble(f"ipc://{tmp_path}/file", "--pub", CONFIG) or "")
        assert "no folder" in (address_trouble(f"ipc://{tmp_path}/none/pub", "--pub", CONFIG) or "")


class TestFolder:
    def test_writable(self, tmp_path: Path) -> None:
        """A folder is written to and left as it was; what is in it and what is free are told."""
        (tmp_path / "events-00000001.jsonl").write_bytes(bytes(1000))
        facts = read_folder(tmp_path)
        told = os.statvfs(tmp_path)
        assert (facts.trouble, facts.exists, facts.used) == (None, True, 1000)
        assert abs(facts.free - told.f_bavail * told.f_frsize) < 1 << 28
        assert [path.name for path in tmp_path.iterdir()] == ["events-00000001.jsonl"]

    def test_will_be_made(self, tmp_path: Path) -> None:
        """A folder that is not there yet is no trouble, and not made."""
        facts = read_folder(tmp_path / "var" / "journal")
        assert (facts.trouble, facts.exists) == (None, False)
        assert facts.free > 0
        assert list(tmp_path.iterdir()) == []

    def test_file_in_its_place(self, tmp_path: Path) -> None:
        """A file is no folder, nor can a folder be made in it."""
        (tmp_path / "file").touch()
        assert "is no folder" in (read_folder(tmp_path / "file").trouble or "")
        assert "is no folder" in (read_folder(tmp_path / "file" / "journal").trouble or "")

    def test_of_another_run(self, tmp_path: Path) -> None:
        """A journal that is being written is told, and its owner keeps it."""
        journal = Journal(tmp_path, max_bytes=10**6, max_age_s=3600)
        assert "another ecustream" in (read_folder(tmp_path).trouble or "")
        journal.close()
        assert read_folder(tmp_path).trouble is None

    @pytest.mark.skipif(not Path("/proc/sys").is_dir(), reason="needs a folder that nobody can write to")
    def test_not_writable(self) -> None:
        """Where nothing can be written, that is said."""
        assert "cannot be used" in (read_folder(Path("/proc/sys")).trouble or "")
