"""Downloads the data sets that torchvision has addresses and checksums of; cut connections are taken up again."""

import gzip
import hashlib
import http.client
import os
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock
from tqdm import tqdm

from pfedmoap.data.catalog import ON_DISK, load_from_disk
from pfedmoap.errors import UserError, refuse_unknown

BLOCK = 2**18
ATTEMPTS = 5  # in a row that bring nothing
PAUSE = 2.0  # seconds before another attempt, times its number
TIMEOUT = 60.0


@dataclass(frozen=True)
class Source:
    """A file to fetch.

    Attributes:
        url, md5: where it is, and its checksum; None where torchvision has none.
        folder: where it belongs under the data root.
        inner: an archive in the archive, which is what holds the images.
    """

    url: str
    md5: str | None
    folder: str = ""
    inner: str | None = None

    @property
    def is_archive(self) -> bool:
        return self.url.endswith((".zip", ".tgz", ".tar.gz"))


def sources(name: str) -> tuple[Source, ...]:
    """What torchvision would download; empty for sets that it cannot."""
    from torchvision import datasets as tv  # a slow import

    flowers = tv.Flowers102._file_dict
    known: dict[str, Callable[[], tuple[Source, ...]]] = {
        "flowers102": lambda: tuple(
            Source(tv.Flowers102._download_url_prefix + file, md5, "flowers-102")
            for file, md5 in (flowers["image"], flowers["label"])
        ),
        "oxford_pets": lambda: tuple(Source(url, md5, "oxford-iiit-pet") for url, md5 in tv.OxfordIIITPet._RESOURCES),
        "food101": lambda: (Source(tv.Food101._URL, tv.Food101._MD5),),
        "caltech101": lambda: (
            Source(  # torchvision has these two inside a function
                "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
                "3138e1922a9193bfa496528edbbc45d0",
                "caltech101",
                inner="caltech-101/101_ObjectCategories.tar.gz",
            ),
        ),
        "dtd": lambda: (Source(tv.DTD._URL, tv.DTD._MD5, "dtd"),),
        "eurosat": lambda: (
            Source(  # in a function, too
                "https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
                "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
                "c8fa014336c82ac7804f0398fcb19387",
                "eurosat",
            ),
        ),
        "fgvc_aircraft": lambda: (Source(tv.FGVCAircraft._URL, None),),
        "sun397": lambda: (Source(tv.SUN397._DATASET_URL, tv.SUN397._DATASET_MD5),),
        "cifar10": lambda: (Source(tv.CIFAR10.url, tv.CIFAR10.tgz_md5),),
        "cifar100": lambda: (Source(tv.CIFAR100.url, tv.CIFAR100.tgz_md5),),
    }
    return known[name]() if name in known else ()


def checksums(name: str) -> dict[str, str]:
    """MD5 of the files that make up a data set, as far as torchvision has them."""
    if name == "imagenet":  # torchvision checks its archives, but has no address of them
        from torchvision.datasets.imagenet import ARCHIVE_META

        return dict(ARCHIVE_META.values())
    return {PurePosixPath(source.url).name: source.md5 for source in sources(name) if source.md5}


def download(name: str, root: str | Path, progress: bool = True) -> str:
    """Fetches, checks and unpacks a data set, unless it is there already.

    Archives are unpacked beside their place and moved there when they are whole, so that a kill never leaves half a
    data set; what has been fetched stays for the next attempt.

    Args:
        name: one of `ON_DISK`.
        root: the folder of the data sets; made if need be.

    Returns:
        The loaded set's `source`.

    Raises:
        UserError: there is nothing to download, the network or the disk fails, or a file is not what it should be.
    """
    refuse_unknown([name], list(ON_DISK), "data set on disk")
    root = Path(root).expanduser()
    with _disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    try:
        return load_from_disk(name, root).source
    except UserError as missing:
        wanted = sources(name)
        if not wanted:  # torchvision has no address of it, and the error says what to fetch and where to put it
            raise UserError(f"{name} cannot be downloaded by a program; {missing}") from None
    with _disk_errors(root), FileLock(root / f".{name}.lock"):
        files = [fetch(source.url, root / source.folder, source.md5, progress) for source in wanted]
        for source, file in zip(wanted, files, strict=True):
            if source.is_archive:
                _unpack_into_place(file, source.inner, progress)
        found = load_from_disk(name, root).source
        for source, file in zip(wanted, files, strict=True):
            if source.is_archive:
                file.unlink(missing_ok=True)
    (root / f".{name}.lock").unlink(missing_ok=True)
    return found


def fetch(url: str, folder: Path, md5: str | None, progress: bool = True) -> Path:
    """Downloads one file, going on where an earlier attempt stopped, and verifies its checksum if there is one.

    Raises:
        UserError: the server does not answer or refuses, the disk is too small, or the checksum is wrong.
    """
    path = folder / PurePosixPath(url).name
    part = path.with_name(f"{path.name}.part")
    if path.is_file() and md5 in (None, _md5(path)):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    attempts = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _receive(url, part, before, progress):
                break
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise UserError(_by_hand(f"{url} is refused ({error.code} {error.reason})", path)) from error
            reason = str(error)
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        attempts = 0 if part.exists() and part.stat().st_size > before else attempts + 1
        if attempts >= ATTEMPTS:
            raise UserError(_by_hand(f"{url} cannot be downloaded ({reason}); what has come is kept", path))
        time.sleep(PAUSE * attempts)
    if md5 not in (None, _md5(part)):
        part.unlink()
        raise UserError(_by_hand(f"{url} came with another checksum than {md5}, and was dropped", path))
    os.replace(part, path)
    return path


def _receive(url: str, part: Path, have: int, progress: bool) -> bool:
    """Appends what the server still has to send; whether all of it came."""
    headers = {"User-Agent": "pfedmoap"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise
        return True  # there was nothing left to send; the checksum will tell
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:  # this server sends all of it again
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        _refuse_small_disk(part, (total or have) - have)
        bar = tqdm(total=total, initial=have, desc=part.stem, unit="B", unit_scale=True, disable=not progress)
        with open(part, "ab" if have else "wb") as file, bar:
            while block := response.read(BLOCK):
                file.write(block)
                have += len(block)
                bar.update(len(block))
    return total is None or have >= total


def unpack(archive: Path, folder: Path, progress: bool = True) -> None:
    """Unpacks a zip or tar file.

    Raises:
        UserError: it is damaged, or would write outside `folder`, which it does not get to do.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                for member in _bar(file.infolist(), archive, progress):
                    if member.filename.startswith(("/", "\\")) or ".." in member.filename.replace("\\", "/").split("/"):
                        raise UserError(f"{archive} would write outside its folder ({member.filename}): do not use it")
                    file.extract(member, folder)
        else:
            with tarfile.open(archive) as file:
                for member in _bar(file, archive, progress):
                    file.extract(member, folder, filter="data")
    except tarfile.FilterError as error:
        raise UserError(f"{archive} would write outside its folder ({error}): do not use it") from error
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        reason = str(error).partition(":")[0]
        raise UserError(f"{archive} is damaged ({reason}): delete it, then run the same again") from error


def _unpack_into_place(archive: Path, inner: str | None, progress: bool) -> None:
    """Unpacks an archive beside its place and moves what it holds there; what is there already is left as it is."""
    workshop = archive.with_name(f".{archive.name}.unpacking")
    shutil.rmtree(workshop, ignore_errors=True)
    unpack(archive, workshop, progress)
    whole = workshop
    if inner:
        whole = workshop / "inner"
        unpack(workshop / inner, whole, progress)
    for entry in whole.iterdir():
        if not (target := archive.parent / entry.name).exists():
            os.replace(entry, target)
    shutil.rmtree(workshop)


def _bar(members: Iterator, archive: Path, progress: bool) -> Iterator:
    return tqdm(members, f"unpacking {archive.name}", unit=" files", delay=1, disable=not progress)


def _refuse_small_disk(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise UserError(f"{path.stem} needs {needed / 1e6:,.0f} MB and {path.parent} has {free / 1e6:,.0f} MB free: "
                        "make room, or use another --data-root")  # fmt: skip


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _by_hand(what: str, path: Path) -> str:
    return f"{what}: run the same again later, or put the file at {path} yourself and run the same again"


@contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{error.filename or root} cannot be written ({reason}): make room, change its permissions, or "
                        "use another --data-root") from error  # fmt: skip
