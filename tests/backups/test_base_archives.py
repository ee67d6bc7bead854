"""What a base backup's tar archives may hold, on every Python from 3.11.0 on."""

import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from taskapp.backups.recovery import extract_base


def write_archives(folder: Path, *members: tarfile.TarInfo) -> None:
    for name in ("base.tar.gz", "pg_wal.tar.gz"):
        with tarfile.open(folder / name, "w:gz") as archive:
            for member in members if name == "base.tar.gz" else ():
                archive.addfile(member, BytesIO(b"x" * member.size))


def member(name: str, kind: bytes = tarfile.REGTYPE, **changes: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.size, made.mode = kind, int(kind == tarfile.REGTYPE), 0o666
    for attribute, value in changes.items():
        setattr(made, attribute, value)
    return made


def test_files_and_folders_are_extracted_for_their_owner_alone(tmp_path: Path) -> None:
    write_archives(tmp_path, member("global", tarfile.DIRTYPE, mode=0o777), member("global/1"))
    extract_base(tmp_path, tmp_path / "postgres")
    assert (tmp_path / "postgres/global/1").read_bytes() == b"x"
    assert (tmp_path / "postgres/global").stat().st_mode & 0o7777 == 0o700
    assert (tmp_path / "postgres/global/1").stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize(
    "stranger",
    [
        member("/etc/x"),
        member("../x"),
        member("a/../../x"),
        member("link", tarfile.SYMTYPE, linkname="/etc"),
        member("link", tarfile.LNKTYPE, linkname="../x"),
        member("device", tarfile.CHRTYPE),
        member("pipe", tarfile.FIFOTYPE),
    ],
    ids=["absolute", "parent", "nested parent", "symlink", "hard link", "device", "pipe"],
)
def test_what_could_lead_out_of_the_cluster_is_refused(
    tmp_path: Path, stranger: tarfile.TarInfo
) -> None:
    write_archives(tmp_path, stranger)
    with pytest.raises(tarfile.ReadError, match="is no file or folder of a cluster"):
        extract_base(tmp_path, tmp_path / "postgres")
    assert not (tmp_path / "x").exists()
