"""The first two notebooks, or others, in a real JupyterLab, in a headless Chromium, as a person would use them.

`make lab-check`.
Runs all cells of copies of the notebooks, moves the sliders and looks whether the picture follows, and takes
screenshots on the way. Everything is done in a temporary folder; only the screenshots stay.

    python tests/lab/check.py [--out build/lab-check] [--profile quick] [--notebooks table1,04]
"""

import argparse
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from pfedmoap.batch.jobs import find
from pfedmoap.system.paths import NOTEBOOKS, PROFILES

NAMES = ("00_start_here", "01_method_step_by_step")
WITH_SLIDERS = "01_method_step_by_step"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH, HEIGHT = 1250, 1400  # of the browser's window, in pixels
SERVER_STARTS, NOTEBOOK_RUNS, PICTURE_FOLLOWS = 60, 600, 10  # seconds that each may take
SETTINGS = {  # no question about news, and cells below the window are there too
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
STATE = """() => {
    const panel = window.jupyterapp.shell.currentWidget;
    return {
        kernel: panel?.sessionContext?.session?.kernel?.status ?? "none",
        cells: (panel?.content?.widgets ?? []).filter(cell => cell.model.type === "code").map(cell => ({
            source: cell.model.sharedModel.source,
            count: cell.model.executionCount,
            error: cell.model.outputs.toJSON().filter(output => output.output_type === "error")
                .map(output => `${output.ename}: ${output.evalue}`).join(),
        })),
    };
}"""


class Failed(Exception):
    """Something is not as it should be; the message says what, and the remedy where there is one."""


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab."""

    address: str
    token: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/lab-check"), help="folder of the screenshots")
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    parser.add_argument("--notebooks", default=",".join(NAMES), help="others, such as table1,04, or all")
    arguments = parser.parse_args()
    every = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    names = every if arguments.notebooks == "all" else [find(name).stem for name in arguments.notebooks.split(",")]
    arguments.out.mkdir(parents=True, exist_ok=True)
    for old in arguments.out.glob("*.png"):
        old.unlink()
    try:
        with tempfile.TemporaryDirectory() as folder:
            copy_notebooks(Path(folder), names, arguments.profile)
            with browser_page() as page, running_lab(Path(folder)) as lab:
                for name in names:
                    check(page, lab, name, arguments.out)
    except Failed as failure:
        sys.exit(f"error: {failure}")
    print(f"{len(list(arguments.out.glob('*.png')))} screenshots are in {arguments.out}")


def copy_notebooks(folder: Path, names: list[str], profile: str) -> None:
    """Copies that write their results, figures and cache below the folder."""
    (folder / "notebooks").mkdir()
    places = {name: str(folder / name) for name in ("results", "figures", "cache")}
    for name in names:
        notebook = load_notebook_node(str(NOTEBOOKS / f"{name}.ipynb"))
        notebook = parameterize_notebook(notebook, {"profile": profile} | places)
        nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")


@contextmanager
def browser_page() -> Iterator:
    """An empty page of a headless Chromium."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise Failed("Playwright is missing: pip install -e '.[lab]' (make lab-check does it).") from error
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    root = hasattr(os, "geteuid") and os.geteuid() == 0  # Chromium's sandbox does not work for root
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"] * root)
        except Error as error:
            raise Failed(f"no Chromium could be started ({str(error).splitlines()[0]}): install a system Chromium "
                         f"(apt install chromium), or Playwright's own (playwright install chromium).") from error
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        try:
            yield page
        finally:
            browser.close()


@contextmanager
def running_lab(folder: Path) -> Iterator[Lab]:
    """JupyterLab on a free port, with a token, and with settings and run-time files in the folder."""
    private = {name: folder / name.lower() for name in (
        "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR",
        "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")}
    for path in private.values():
        path.mkdir()
    for name, setting in SETTINGS.items():
        path = private["JUPYTERLAB_SETTINGS_DIR"] / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(setting))
    lab = Lab(f"http://127.0.0.1:{free_port()}", secrets.token_hex(16))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser",
               "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={lab.address.rpartition(':')[2]}",
               "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder / 'notebooks'}"]
    environment = os.environ | {name: str(path) for name, path in private.items()} | {"JUPYTER_TOKEN": lab.token}
    log = folder / "jupyterlab.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=output)
    try:
        wait_for(lambda: answers(lab) or server.poll() is not None, SERVER_STARTS, "JupyterLab did not start")
        if server.poll() is not None:
            raise Failed(f"JupyterLab ended at once: {log.read_text()[-2000:]}")
        yield lab
    finally:
        server.terminate()  # ends the kernels too
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def check(page, lab: Lab, name: str, out: Path) -> None:
    """One notebook: all cells without an error, screenshots, and the sliders where it has some."""
    page.goto(f"{lab.address}/doc/tree/{name}.ipynb?token={lab.token}")
    wait_for(lambda: page.evaluate("() => !!window.jupyterapp?.shell?.currentWidget?.content"), 60,
             f"{name} did not open")
    wait_for(lambda: page.evaluate(STATE)["kernel"] == "idle", 60, f"{name} got no kernel")
    began = time.monotonic()
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    try:
        wait_for(lambda: finished(page.evaluate(STATE), name), NOTEBOOK_RUNS, f"{name} did not finish")
        cells = page.evaluate(STATE)["cells"]
        print(f"{name}: {len(cells)} cells without an error in {time.monotonic() - began:.0f} s")
        page.wait_for_timeout(1500)  # for widgets, formulas and pictures to be drawn
        photograph(page, out, name)
        if name == WITH_SLIDERS:
            move_sliders(page, out, name)
    except Failed:
        page.screenshot(path=out / f"{name}_failed.png")
        raise


def finished(state: dict, name: str) -> bool:
    """Whether all cells have run; an error in one ends the check."""
    for number, cell in enumerate(state["cells"], 1):
        if cell["error"]:
            first = cell["source"].strip().splitlines()[0]
            raise Failed(f"{name}, code cell {number} ({first}): {cell['error']}")
    return state["kernel"] == "idle" and all(cell["count"] for cell in state["cells"])


def move_sliders(page, out: Path, name: str) -> None:
    """Moves lambda, K, client and image by the keyboard; value and picture have to follow, and to come back."""
    picture = page.locator("img.pfedmoap-mixing")
    if picture.count() != 1:
        raise Failed(f"{name} shows {picture.count()} pictures with sliders in place of one")
    picture.scroll_into_view_if_needed()
    first = content(page, picture)
    for label, key in (("λ", "ArrowRight"), ("K", "ArrowLeft"), ("client", "ArrowRight"), ("image", "ArrowRight")):
        slider = page.locator(".widget-hslider").filter(has=page.get_by_text(label, exact=True))
        value, before = slider.locator(".widget-readout").inner_text(), content(page, picture)
        began = time.monotonic()
        slider.locator(".noUi-handle").press(key)
        wait_for(lambda before=before: content(page, picture) != before, PICTURE_FOLLOWS,
                 f"the picture did not follow the slider {label}")
        seconds, moved = time.monotonic() - began, slider.locator(".widget-readout").inner_text()
        if moved == value:
            raise Failed(f"the slider {label} still reads {value}")
        print(f"{name}: {label} from {value} to {moved}, redrawn in {seconds:.2f} s")
    page.screenshot(path=out / f"{name}_sliders_moved.png")
    for label, key in (("image", "ArrowLeft"), ("client", "ArrowLeft"), ("K", "ArrowRight"), ("λ", "ArrowLeft")):
        slider = page.locator(".widget-hslider").filter(has=page.get_by_text(label, exact=True))
        slider.locator(".noUi-handle").press(key)
    wait_for(lambda: content(page, picture) == first, PICTURE_FOLLOWS, "moved back, the picture is another one")


def content(page, picture) -> str:
    """The bytes of a picture, as a data address."""
    return picture.evaluate("""async image => {
        const blob = await (await fetch(image.src)).blob();
        return new Promise(done => {
            const reader = new FileReader();
            reader.onload = () => done(reader.result);
            reader.readAsDataURL(blob);
        });
    }""")


def photograph(page, out: Path, name: str) -> None:
    """Screenshots of the whole notebook, a window at a time."""
    scroller = page.locator(".jp-WindowedPanel-outer").first
    total, step = scroller.evaluate("element => [element.scrollHeight, element.clientHeight]")
    for number, top in enumerate(range(0, total, step)):
        scroller.evaluate("(element, top) => element.scrollTo(0, top)", top)
        page.wait_for_timeout(300)
        page.screenshot(path=out / f"{name}_{number:02d}.png")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(lab: Lab) -> bool:
    request = urllib.request.Request(f"{lab.address}/api/status", headers={"Authorization": f"token {lab.token}"})
    try:
        with urllib.request.urlopen(request, timeout=2):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def wait_for(condition, seconds: float, otherwise: str) -> None:
    """Waits until the condition holds.

    Raises:
        Failed: it did not within the time.
    """
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise Failed(f"{otherwise} within {seconds} s")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
