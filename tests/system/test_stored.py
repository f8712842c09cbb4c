"""Results as files: made once, kept, and made anew where they are damaged."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

from pfedmoap.system import compute_missing
from pfedmoap.system.stored import work


def double(number: int) -> dict[str, int]:
    return {"number": 2 * number}


def test_what_is_missing_or_damaged_is_made_and_what_is_there_is_kept(tmp_path):
    wanted = {tmp_path / "new" / f"{number}.json": (number,) for number in range(3)}
    first, second, _ = wanted
    first.parent.mkdir()
    first.write_text(json.dumps({"number": 7}))
    second.write_text('{"number": ')
    found = compute_missing(double, wanted, jobs=1, unit="number", progress=False)
    assert [each["number"] for each in found.values()] == [7, 2, 4]


def test_two_that_want_the_same_make_it_once(tmp_path):
    made = []

    def slow(*arguments):
        time.sleep(0.2)
        made.append(arguments)
        return {"made": len(made)}

    path = tmp_path / "new" / "one.json"
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: work((path, slow, (5,)), lambda: None), range(2)))
    assert made == [(5,)] and json.loads(path.read_text()) == {"made": 1}


def test_processes_give_what_one_gives(tmp_path):
    one, two = ({tmp_path / name / f"{number}.json": (number,) for number in range(3)} for name in ("one", "two"))
    alone = compute_missing(double, one, jobs=1, unit="number", progress=False)
    assert list(compute_missing(double, two, jobs=2, unit="number", progress=False).values()) == list(alone.values())
