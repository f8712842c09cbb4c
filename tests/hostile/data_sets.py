"""Somebody's data: split files, CSV files, folders, pictures, archives."""

import io
import json
import os
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import base as bases
from bench import CANARY, Hostile, command, payload
from bytes_and_json import other_documents, spoiled, write
from PIL import Image

SPLIT = "caltech-101/split_zhou_Caltech101.json"
IMAGES = "caltech-101/101_ObjectCategories"
OWN = command("data", "folders", "--data-root", "{}", "--check")
LISTED = command("data", "folders", "--data-root", "{}/list.csv", "--check")


def examined(folder: Path) -> str:
    """Loads the set and opens every picture."""
    from pfedmoap.experiments import load_dataset

    found = load_dataset("caltech101", folder)
    pictures = sum(image.width > 0 for part in (found.train, found.test) for image in part.images)
    return f"{len(found.class_names)} classes, {pictures} pictures: {', '.join(found.class_names)[:2000]}"


def accepted(folder: Path, printed: str) -> str | None:
    """For what may work or be refused: nothing more is asked than of every input."""
    return None


def split_files(base: bases.Base) -> Iterator[Hostile]:
    """CoOp's split files."""
    names = sorted(path.name for path in (base.folder / "photographs").iterdir())
    rows = [[f"{name}/{number}.jpg", label, name] for label, name in enumerate(names) for number in range(6)]
    good = {
        "train": [row for row in rows if int(row[0][-5]) < 4],
        "val": [],
        "test": [row for row in rows if int(row[0][-5]) >= 4],
    }

    def put(content: bytes, folder: Path) -> None:
        shutil.copytree(base.folder / "photographs", folder / IMAGES)
        write(folder / SPLIT, content)

    def with_row(*row, part: str = "train") -> dict:
        return good | {part: [*good[part], list(row)]}

    files = ["../../../../secret.txt", "/etc/passwd", "a/../../../../secret.txt", "..\\..\\secret.txt",
             "C:\\secret.jpg",
             "\\\\server\\share\\a.jpg", "~/secret.jpg", "file:///etc/passwd", "http://localhost:1/a.jpg", "", ".", "/",
             f"{names[0]}/0.jpg\x00.txt", f"{names[0]}/\x1b[2J.jpg", f"{names[0]}/\u202egpj.exe", "a" * 5000,
             "$(touch x).jpg", "`touch x`.jpg", "| touch x", f"{names[0]}", f"{names[0]}/", "<script>.jpg",
             "%2e%2e/x.jpg",
             "\ud800.jpg"]  # fmt: skip
    made = {f"the path {file!a}"[:60]: with_row(file, 0, names[0]) for file in files}
    made |= {
        f"the label {label!a}": with_row(f"{names[0]}/0.jpg", label, names[0])
        for label in ("0; x", -1, 3, 10**30, 0.5, None, [0], {}, True, float("nan"), float("inf"))
    }
    made |= {
        f"the class name {name!a}"[:60]: good
        | {
            "train": [[file, label, name if label == 0 else own] for file, label, own in good["train"]],
            "test": [[file, label, name if label == 0 else own] for file, label, own in good["test"]],
        }
        for name in (
            "<script>alert(1)</script>",
            "\x1b]0;owned\x07",
            "\u202egpj",
            "",
            " ",
            "a\x00b",
            names[1],
            "a" * 100_000,
            "{0.__class__}",
            "%s%n",
            "\\input{/etc/passwd}",
            "a\nb",
            None,
            7,
            ["x"],
        )
    }
    made |= {
        "a row of two": with_row(f"{names[0]}/0.jpg", 0),
        "a row that is text": good | {"train": ["abc"]},
        "a row of four": with_row(f"{names[0]}/0.jpg", 0, names[0], "x"),
        "no test part": {"train": good["train"]},
        "no training images": good | {"train": []},
        "another part": good | {"extra": good["test"]},
        "a part that is a number": good | {"val": 7},
        "two names for a label": with_row(f"{names[0]}/0.jpg", 0, "x"),
        "a label in two folders": with_row(f"{names[1]}/0.jpg", 0, names[0]),
    }
    believed = {"another part"}
    for name, document in made.items():
        yield Hostile(
            "split file",
            name,
            partial(put, json.dumps(document).encode()),
            examined,
            accepted if name in believed or name.startswith("the class name") else None,
        )
    for name, content in [*other_documents(), *spoiled(json.dumps(good).encode(), 0)]:
        fine = name == "a byte order mark first"
        yield Hostile("split file", name, partial(put, content), examined, accepted if fine else None)
    yield Hostile(
        "split file",
        "train and test images the same",
        partial(put, json.dumps(good | {"test": good["train"]}).encode()),
        command("data", "caltech101", "--data-root", "{}"),
        lambda folder, printed: "it is believed",
    )

    def linked(folder: Path) -> None:
        put(json.dumps(with_row(f"{names[0]}/link.jpg", 0, names[0])).encode(), folder)
        (folder / IMAGES / names[0] / "link.jpg").symlink_to(folder.parent / "secret.txt")

    yield Hostile("split file", "a picture that is a link to another's text", linked, examined)


def csv_files(base: bases.Base) -> Iterator[Hostile]:
    """Lists of pictures as spreadsheets write them, and as nobody should."""
    files = sorted(str(path.relative_to(base.folder)) for path in base.folder.glob("photographs/*/*.jpg"))
    rows = [(file, Path(file).parent.name) for file in files]
    plain = "path,label\n" + "".join(f"{file},{label}\n" for file, label in rows)

    def put(content: bytes, folder: Path) -> None:
        shutil.copytree(base.folder / "photographs", folder / "photographs")
        write(folder / "list.csv", content)

    def right(name: str, text: str, encoding: str = "utf-8") -> Hostile:
        return Hostile("CSV", name, partial(put, text.encode(encoding)), LISTED, _three_classes, must_work=True)

    def odd(name: str, content: str | bytes) -> Hostile:
        content = content if isinstance(content, bytes) else content.encode(errors="surrogatepass")
        return Hostile("CSV", name, partial(put, content), LISTED)

    yield right("a byte order mark", plain, "utf-8-sig")
    yield right("semicolons", plain.replace(",", ";"))
    yield right("semicolons and a byte order mark", plain.replace(",", ";"), "utf-8-sig")
    yield right("carriage returns", plain.replace("\n", "\r\n"))
    yield right("spaces after commas", plain.replace(",", ", "))
    yield right(
        "quotes around everything",
        "".join(",".join(f'"{cell}"' for cell in line.split(",")) + "\n" for line in plain.splitlines()),
    )
    yield right("columns the other way round", "label,path\n" + "".join(f"{label},{file}\n" for file, label in rows))
    yield right("no line end at the end", plain.rstrip("\n"))
    yield right("empty lines between", plain.replace("\n", "\n\n"))
    yield right("paths with a dot first", plain.replace("photographs/", "./photographs/"))

    first, label = rows[0]
    # On this system a backslash is a letter; a list from another must not mean other pictures here.
    yield Hostile("CSV", "backslashes", partial(put, plain.replace("/", "\\").encode()), LISTED, _three_classes)
    yield odd("a row twice", plain + f"{first},{label}\n")
    yield odd("a row twice, spelt otherwise", plain + f"./photographs/../{first},{label}\n")
    yield odd("a picture in two classes", plain + f"{first},{rows[-1][1]}\n")
    yield odd("a doubled slash in a path that is there", plain + f"{first.replace('/', '//')},{label}\n")
    for path in ("../secret.txt", "/etc/passwd", "..\\secret.txt", "photographs/../../secret.txt", "~/x.jpg",
                 "C:\\x.jpg",
                 "file:///etc/passwd", "http://localhost:1/x.jpg", "=cmd|' /C calc'!A0", "@SUM(1)", "|touch x",
                 "$(touch x)", "photographs", ".", "list.csv", "\x1b[2J.jpg", "\u202egpj.exe", "a" * 5000, "x\x00y.jpg",
                 "/dev/zero", "/dev/stdin", "/proc/self/environ"):  # fmt: skip
        yield odd(f"the path {path!a}"[:60], plain + f"{path},{label}\n")
    for name in ("\x1b]0;owned\x07", "\u202egpj", "_", "   ", "", "a\x00b"):
        yield odd(f"the class {name!a}", plain + f"{first},{name}\n")
    for name in (
        "<script>alert(1)</script>",
        "=HYPERLINK(1)",
        "\\input{/etc/passwd}",
        "{0.__class__}",
        "%s%n",
        "a" * 9000,
        "$x^2$",
        "**bold**",
        "[link](http://localhost)",
        "a|b",
        "&lt;",
    ):
        text = plain.replace(f",{label}\n", f",{name}\n")
        yield Hostile("CSV", f"the class {name!a}"[:60], partial(put, text.encode()), LISTED, accepted, must_work=True)
    yield odd("no header", plain.partition("\n")[2])
    yield odd("a header twice", plain + "path,label\n")
    yield odd("a column more", plain.replace("label\n", "label,password\n"))
    yield odd("a column twice", plain.replace("path,label", "path,path"))
    yield odd("a value more", plain + f"{first},{label},x,y\n")
    yield odd("a value less", plain + f"{first}\n")
    yield odd("an open quote", plain + '"photographs\n')
    yield odd("an open quote before 200,000 letters", plain + '"' + "a" * 200_000)
    yield odd("tabs", plain.replace(",", "\t"))
    yield odd("bars", plain.replace(",", "|"))
    yield odd("UTF-16", plain.encode("utf-16"))
    yield odd("Latin-1", (plain + f"{first},Größe\n").encode("latin-1"))
    yield odd("a zero byte", plain.encode() + b"\x00")
    yield odd("empty", "")
    yield odd("the header alone", "path,label\n")
    yield odd("a picture", next(base.folder.glob("photographs/*/0.jpg")).read_bytes())
    yield odd("random bytes", os.urandom(4000))
    yield odd("a million commas", "path,label\n" + "," * 10**6)
    yield odd("a field of two million letters", plain + "a" * 2_000_000 + f",{label}\n")
    yield odd("carriage returns alone", plain.replace("\n", "\r") + "x\r")
    yield odd("a split that is none", plain.replace("label\n", "label,split\n", 1).replace("\n", ",maybe\n"))


def _three_classes(folder: Path, printed: str) -> str | None:
    return None if "3 classes" in printed and "problem" not in printed else "other classes"


def pictures(base: bases.Base) -> Iterator[Hostile]:
    """Files among somebody's photographs."""
    photograph = next(base.folder.glob("photographs/*/0.jpg")).read_bytes()

    def put(file: str, content: bytes | Callable[[Path], bytes], folder: Path) -> None:
        shutil.copytree(base.folder / "photographs", folder, dirs_exist_ok=True)
        own = sorted(path for path in folder.iterdir() if path.is_dir())[0]
        write(own / file, content if isinstance(content, bytes) else content(folder))

    def postscript(folder: Path) -> bytes:
        code = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n(%pipe%{payload(folder)}) (w) file pop\n"
        return code.encode() + b"0 0 64 64 rectfill\nshowpage\n%%EOF\n"

    def vector(folder: Path) -> bytes:
        return (
            b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><image href="file://'
            + str(folder.parent / "secret.txt").encode()
            + b'"/><script>alert(1)</script></svg>'
        )

    for ending in ("jpg", "png", "tif", "bmp", "gif", "webp", "ppm"):
        yield Hostile(
            "picture", f"PostScript that starts a program, as .{ending}", partial(put, f"x.{ending}", postscript), OWN
        )
    for ending in ("eps", "ps", "svg", "pdf", "html", "py", "sh"):
        yield Hostile(
            "picture", f"a program as .{ending}", partial(put, f"x.{ending}", postscript), OWN, accepted, must_work=True
        )
    for ending in ("jpg", "png", "svg"):
        yield Hostile(
            "picture",
            f"SVG that names another's file, as .{ending}",
            partial(put, f"x.{ending}", vector),
            OWN,
            accepted if ending == "svg" else None,
        )
    for name, content in spoiled(photograph, 6):
        yield Hostile("picture", f"a JPEG, {name}", partial(put, "x.jpg", content), OWN, accepted)
    bombs = {"a PNG of 10 gigapixels": _png(100_000, 100_000), "a PNG of no pixels": _png(0, 0),
             "a PNG of a line": _png(60_000, 1),
             "a GIF of 65,535 by 65,535": b"GIF89a\xff\xff\xff\xff\x80\x00\x00" + bytes(6),
             "a BMP of 2 gigapixels": _bmp(46_000, 46_000), "a PPM of a petabyte": b"P6 33554432 33554432 255\n",
             "a TIFF whose directory is itself": b"II*\x00\x08\x00\x00\x00\x00\x00\x08\x00\x00\x00",
             "a PNG of 300 MB in 300 kB": _png(10_000, 10_000)}  # fmt: skip
    for name, content in bombs.items():
        ending = name.split()[1].lower().replace("tiff", "tif")
        yield Hostile("picture", name, partial(put, f"x.{ending}", content), OWN, accepted)
    with_text = io.BytesIO()
    Image.open(io.BytesIO(photograph)).save(with_text, "png")
    chunk = b"iTXt" + b"x\x00\x01\x00\x00\x00" + zlib.compress(bytes(200_000_000), 9)
    content = with_text.getvalue()
    content = (
        content[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]
    )
    yield Hostile("picture", "a PNG with a text of 200 MB", partial(put, "x.png", content), OWN, accepted)
    yield from _odd_files(base)


def _odd_files(base: bases.Base) -> Iterator[Hostile]:
    """What is in a folder of photographs and no file, or has a name to be afraid of."""

    def beside(make: Callable[[Path], None], folder: Path) -> None:
        shutil.copytree(base.folder / "photographs", folder, dirs_exist_ok=True)
        make(sorted(path for path in folder.iterdir() if path.is_dir())[0])

    kinds: dict[str, Callable[[Path], None]] = {
        "a pipe that nobody writes to": lambda own: os.mkfifo(own / "x.jpg"),
        "a link to such a pipe": lambda own: (
            os.mkfifo(own.parent.parent / "pipe"),
            (own / "x.jpg").symlink_to("../../pipe"),
        ),
        "a link to /dev/zero": lambda own: (own / "x.jpg").symlink_to("/dev/zero"),
        "a link to itself": lambda own: (own / "x.jpg").symlink_to("x.jpg"),
        "a link to nothing": lambda own: (own / "x.jpg").symlink_to("nothing"),
        "a folder called x.jpg": lambda own: (own / "x.jpg").mkdir(),
        "a class that is a link to the folder above": lambda own: (own.parent / "loop").symlink_to(".."),
        "a link to another's text": lambda own: (own / "x.jpg").symlink_to("../../secret.txt"),
    }
    for name, make in kinds.items():
        yield Hostile("picture", name, partial(beside, make), OWN, accepted)
    for name in ("<img src=x onerror=alert(1)>.jpg", "\x1b[2J.jpg", "\u202egpj.jpg", "a\nb.jpg", "-rf.jpg",
                 "$(touch x).jpg",
                 "; touch x.jpg", "\udcff.jpg", "a" * 250 + ".jpg", "con.jpg", "%s%n.jpg"):  # fmt: skip

        def named(own: Path, name: str = name) -> None:
            shutil.copy(own / "0.jpg", own / name)
            (own / "1.jpg").write_bytes(b"none")  # so that something is said of this class's files

        yield Hostile("picture", f"a file called {name!a}"[:60], partial(beside, named), OWN, accepted)

        def broken(own: Path, name: str = name) -> None:
            (own / name).write_bytes(b"none")

        yield Hostile("picture", f"a broken file called {name!a}"[:60], partial(beside, broken), OWN)


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(min((3 * width + 1) * height, 300_000_000)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def archives(base: bases.Base) -> Iterator[Hostile]:
    """Archives of data sets, as a download leaves them."""

    def zipped(name: str, content: bytes = b"x", kind: int = 0) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            with zipfile.ZipFile(folder / "a.zip", "w") as file:
                entry = zipfile.ZipInfo(name)
                entry.external_attr = kind << 16
                file.writestr(entry, content)

        return make

    def tarred(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            with tarfile.open(folder / "a.zip", "w:gz") as file:
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname = kind, link
                file.addfile(entry)
                if link:
                    file.addfile(through := tarfile.TarInfo(f"{name}/{CANARY}"), io.BytesIO())
                    assert through.size == 0

        return make

    outside = f"../../{CANARY}"
    made = {
        f"zip: {name!a}": zipped(name)
        for name in (outside, f"/tmp/../{CANARY}", f"a/../../../{CANARY}", f"..\\..\\{CANARY}", "a\x00b", "C:\\x")
    }
    made |= {f"tar: {name!a}": tarred(name) for name in (outside, f"/{CANARY}", f"a/../../../{CANARY}")}
    made |= {
        "tar: a link outside, then a file through it": tarred("a", tarfile.SYMTYPE, "../.."),
        "tar: a hard link to another's file": tarred("a", tarfile.LNKTYPE, "../../secret.txt"),
        "tar: a device": tarred("a", tarfile.CHRTYPE),
        "tar: a pipe": tarred("a", tarfile.FIFOTYPE),
    }
    made |= {
        "neither zip nor tar": lambda folder: write(folder / "a.zip", b"PK nothing"),
        "an empty file": lambda folder: write(folder / "a.zip", b""),
    }

    def act(folder: Path) -> None:
        from pfedmoap.data.downloads import unpack

        unpack(folder / "a.zip", folder / "unpacked", progress=False)

    for name, make in made.items():
        yield Hostile("archive", name, make, act, _only_inside)


def _only_inside(folder: Path, printed: str) -> str | None:
    for path in (folder / "unpacked").rglob("*"):
        if path.is_symlink() or not path.resolve().is_relative_to(folder):
            return f"{path.name} leads outside"
    return None
