"""Downloads from a server on this machine: resumed, verified, and never outside their folder."""

import hashlib
import http.server
import io
import re
import shutil
import tarfile
import threading
import zipfile
from collections import namedtuple

import more_sets
import pytest
from layouts import write_cifar_batch, write_classes, write_python2_pickle

from pfedmoap.data import downloads
from pfedmoap.data.downloads import Source, fetch, unpack
from pfedmoap.errors import UserError
from pfedmoap.experiments import download_dataset, load_dataset

CONTENT = bytes(range(256)) * 4000


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; cuts the connection of the first `cuts` answers in the middle, and fails with `status` if set."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cuts, self.status, self.ranges, self.asked = {}, 0, None, True, []

    def handle_error(self, *_):  # a client that has seen enough closes the connection
        pass

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        content = server.files.get(self.path[1:])
        if server.status or content is None:
            return self.send_error(server.status or 404)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and server.ranges else 0
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        if server.cuts:
            server.cuts -= 1
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "PAUSE", 0.0)
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def md5(content):
    return hashlib.md5(content).hexdigest()


def tar(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return stream.getvalue()


def folder_as(folder, kind, below="") -> bytes:
    """An archive of a folder on disk."""
    path = shutil.make_archive(str(folder.parent / "made"), kind, folder, below or None)
    with open(path, "rb") as file:
        return file.read()


def test_file_is_fetched_once(server, tmp_path):
    server.files["a.bin"] = CONTENT
    path = fetch(server.url("a.bin"), tmp_path / "new", md5(CONTENT), progress=False)
    assert path == tmp_path / "new" / "a.bin" and path.read_bytes() == CONTENT
    fetch(server.url("a.bin"), tmp_path / "new", md5(CONTENT), progress=False)
    assert server.asked == [None]
    assert [file.name for file in path.parent.iterdir()] == ["a.bin"]


def test_cut_connection_is_taken_up_where_it_was_cut(server, tmp_path):
    server.files["a.bin"], server.cuts = CONTENT, 3
    path = fetch(server.url("a.bin"), tmp_path, md5(CONTENT), progress=False)
    assert path.read_bytes() == CONTENT
    half, quarter = len(CONTENT) // 2, len(CONTENT) // 4
    eighth = half + quarter + len(CONTENT) // 8
    assert server.asked == [None, f"bytes={half}-", f"bytes={half + quarter}-", f"bytes={eighth}-"]


def test_part_of_an_earlier_process_is_used_and_a_whole_one_accepted(server, tmp_path):
    server.files["a.bin"] = CONTENT
    for have in (1000, len(CONTENT)):
        (tmp_path / "a.bin").unlink(missing_ok=True)
        (tmp_path / "a.bin.part").write_bytes(CONTENT[:have])
        assert fetch(server.url("a.bin"), tmp_path, md5(CONTENT), progress=False).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-", f"bytes={len(CONTENT)}-"]


def test_server_that_cannot_resume_starts_again(server, tmp_path):
    server.files["a.bin"], server.ranges = CONTENT, False
    (tmp_path / "a.bin.part").write_bytes(b"x" * 1000)
    assert fetch(server.url("a.bin"), tmp_path, md5(CONTENT), progress=False).read_bytes() == CONTENT


def test_wrong_checksum_drops_the_file(server, tmp_path):
    server.files["a.bin"] = CONTENT[:-1] + b"x"
    with pytest.raises(UserError, match=f"another checksum than {md5(CONTENT)}, and was dropped: run the same again"):
        fetch(server.url("a.bin"), tmp_path, md5(CONTENT), progress=False)
    assert list(tmp_path.iterdir()) == []


def test_refusal_and_silence_name_the_place_for_the_file(server, tmp_path):
    with pytest.raises(UserError, match=rf"refused \(404 Not Found\): .* put the file at {tmp_path}/a.bin yourself"):
        fetch(server.url("a.bin"), tmp_path, md5(CONTENT), progress=False)
    server.status = 503
    with pytest.raises(UserError, match=r"cannot be downloaded \(HTTP Error 503.*\); what has come is kept"):
        fetch(server.url("a.bin"), tmp_path, md5(CONTENT), progress=False)
    assert len(server.asked) == 1 + downloads.ATTEMPTS
    with pytest.raises(UserError, match=r"cannot be downloaded \(.*refused"):
        fetch("http://127.0.0.1:9/a.bin", tmp_path, md5(CONTENT), progress=False)


def test_small_disk_is_refused_with_the_numbers(server, tmp_path, monkeypatch):
    server.files["a.bin"] = CONTENT
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("usage", "free")(1000))
    with pytest.raises(UserError, match="a.bin needs 1 MB and .* has 0 MB free: make room"):
        fetch(server.url("a.bin"), tmp_path, md5(CONTENT), progress=False)


@pytest.mark.parametrize("name", ["../evil.txt", "ok/../../evil.txt", "/../evil.txt"])
def test_archives_cannot_write_outside_their_folder(tmp_path, name):
    (tmp_path / "a.tgz").write_bytes(tar({"fine.txt": b"fine", name: b"evil"}))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, "evil")
    for kind in ("tgz", "zip"):
        with pytest.raises(UserError, match=rf"a.{kind} would write outside its folder .*: do not use it"):
            unpack(tmp_path / f"a.{kind}", tmp_path / "to" / "here", progress=False)
    assert not list(tmp_path.rglob("evil.txt"))


def test_links_out_of_the_folder_are_refused(tmp_path):
    (tmp_path / "a.tgz").write_bytes(tar({}, {"out": "../.."}))
    with pytest.raises(UserError, match="would write outside its folder"):
        unpack(tmp_path / "a.tgz", tmp_path / "to", progress=False)


def test_damaged_archives(tmp_path):
    (tmp_path / "a.tgz").write_bytes(tar({"a": CONTENT})[:-1000])
    (tmp_path / "b.tgz").write_bytes(b"oops")
    for name in ("a.tgz", "b.tgz"):
        with pytest.raises(UserError, match=f"{name} is damaged .*: delete it, then run the same again"):
            unpack(tmp_path / name, tmp_path / "to", progress=False)


def serve(monkeypatch, server, name, *files):
    """Makes `sources(name)` lead to the test's own server, with the real folders."""
    real = downloads.sources(name)
    for source, content in zip(real, files, strict=True):
        server.files[source.url.rpartition("/")[2]] = content
    ours = tuple(
        Source(server.url(source.url.rpartition("/")[2]), source.md5 and md5(content), source.folder, source.inner)
        for source, content in zip(real, files, strict=True)
    )
    monkeypatch.setattr(downloads, "sources", lambda _: ours)


def test_cifar10_from_nothing_to_loaded_with_a_cut_in_between(server, tmp_path, monkeypatch):
    made = tmp_path / "made" / "cifar-10-batches-py"
    for number, batch in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        write_cifar_batch(made / batch, [0, 1], b"labels", seed=number)
    write_python2_pickle(made / "batches.meta", {b"label_names": [b"airplane", b"automobile"]})
    serve(monkeypatch, server, "cifar10", folder_as(made.parent, "gztar"))
    server.cuts = 1
    root = tmp_path / "data"
    assert downloads.download("cifar10", root, progress=False) == f"{root}/cifar-10-batches-py, the official split"
    assert [path.name for path in root.iterdir()] == ["cifar-10-batches-py"]
    assert downloads.download("cifar10", root) and len(server.asked) == 2  # it is there already


def test_caltech101_has_its_images_in_an_archive_in_the_archive(server, tmp_path, monkeypatch):
    write_classes(tmp_path / "made" / "101_ObjectCategories", {"Faces": 10, "anchor": 10})
    inner = folder_as(tmp_path / "made", "gztar")
    outer = tmp_path / "outer" / "caltech-101"
    outer.mkdir(parents=True)
    (outer / "101_ObjectCategories.tar.gz").write_bytes(inner)
    serve(monkeypatch, server, "caltech101", folder_as(outer.parent, "zip"))
    downloads.download("caltech101", tmp_path / "data", progress=False)
    assert load_dataset("caltech101", tmp_path / "data").class_names == ("face", "anchor")
    assert [path.name for path in (tmp_path / "data" / "caltech101").iterdir()] == ["101_ObjectCategories"]


def test_pets_come_in_two_archives_and_what_was_fetched_is_kept(server, tmp_path, monkeypatch):
    breeds = {"Abyssinian": 5, "great_pyrenees": 5}
    images, notes = tmp_path / "a" / "images", tmp_path / "b" / "annotations"
    write_classes(images.parent, {"images": 1})
    for breed, count in breeds.items():
        for number in range(count):
            shutil.copy(images / "image_0001.jpg", images / f"{breed}_{number}.jpg")
    notes.mkdir(parents=True)
    lines = [[f"{breed}_{n} {c} 1 1\n" for n in range(5)] for c, breed in enumerate(breeds, 1)]
    (notes / "trainval.txt").write_text("".join(line for own in lines for line in own[:3]))
    (notes / "test.txt").write_text("".join(line for own in lines for line in own[3:]))
    serve(monkeypatch, server, "oxford_pets", folder_as(images.parent, "gztar"), folder_as(notes.parent, "gztar"))
    annotations = server.files.pop("annotations.tar.gz")
    with pytest.raises(UserError, match="404"):
        downloads.download("oxford_pets", tmp_path / "data", progress=False)
    server.files["annotations.tar.gz"] = annotations
    assert "test.txt" in downloads.download("oxford_pets", tmp_path / "data", progress=False)
    assert len(server.asked) == 3  # the images were not fetched twice


@pytest.mark.parametrize(("name", "folder", "kind"), [
    ("eurosat", "eurosat", "zip"), ("fgvc_aircraft", "", "gztar"), ("sun397", "", "gztar"),
])  # fmt: skip
def test_other_sets_come_as_torchvision_lays_them_out(server, tmp_path, monkeypatch, name, folder, kind):
    made = tmp_path / "made"
    write = {"eurosat": more_sets.eurosat, "sun397": lambda root: more_sets.sun397(root, lists=False),
             "fgvc_aircraft": lambda root: more_sets.fgvc_aircraft(root, "fgvc-aircraft-2013b/data")}  # fmt: skip
    write[name](made)
    serve(monkeypatch, server, name, folder_as(made / folder, kind))
    downloads.download(name, tmp_path / "data", progress=False)
    assert load_dataset(name, tmp_path / "data").fingerprint == load_dataset(name, made).fingerprint


def test_file_without_a_checksum_is_taken_as_it_comes_and_fetched_once(server, tmp_path):
    server.files["a.bin"], server.cuts = CONTENT, 1
    assert fetch(server.url("a.bin"), tmp_path, None, progress=False).read_bytes() == CONTENT
    asked = len(server.asked)
    fetch(server.url("a.bin"), tmp_path, None, progress=False)
    assert asked == len(server.asked) == 2


def test_every_source_has_an_address_and_a_checksum():
    names = ("flowers102", "oxford_pets", "food101", "caltech101", "dtd", "cifar10", "cifar100", "eurosat", "sun397")
    for name in names:
        for source in downloads.sources(name):
            assert re.match(r"https?://", source.url) and re.fullmatch(r"[0-9a-f]{32}", source.md5)
    assert downloads.sources("flowers102")[1].url.endswith("/imagelabels.mat")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("domainnet", "cannot be downloaded by a program; DomainNet was not found .* download the six zips from"),
        ("office_caltech10", "cannot be downloaded by a program; .*office_caltech_10_dataset.zip"),
        ("stanford_cars", "cannot be downloaded by a program; .*put cars_train, cars_test, devkit"),
        ("imagenet", "cannot be downloaded by a program; .*https://image-net.org"),
        ("nature", "nature needs no download"),
        ("cifar", "There is no data set 'cifar'; did you mean 'cifar1"),
    ],
)
def test_what_cannot_be_downloaded_says_what_to_do(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        download_dataset(name, tmp_path)
