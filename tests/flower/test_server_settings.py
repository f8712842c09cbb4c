"""What a server's app is told: all of it arrives, and nobody else can read it."""

from dataclasses import asdict, fields

from pfedmoap.experiments import Place
from pfedmoap.flower.settings import VARIABLE, ServerSettings


def test_every_setting_arrives_and_the_file_is_private(tmp_path, monkeypatch):
    told = ServerSettings(str(tmp_path), str(tmp_path / "progress"), {12345678901234567890: 0, 2: 1},
                          Place("data", "cache", "cpu"), 1.0, 2.0, 3.0, "trimmed", 0.4)
    usual = ServerSettings("", "", {}, Place())
    assert all(getattr(told, field.name) != getattr(usual, field.name) for field in fields(told))  # none is left out
    told.write(path := tmp_path / "settings.json")
    monkeypatch.setenv(VARIABLE, str(path))
    assert asdict(ServerSettings.read()) == asdict(told) and path.stat().st_mode & 0o077 == 0
    told.tell(round=1)
    told.tell(finished=True)
    assert (tmp_path / "progress").read_text().splitlines() == ['{"round": 1}', '{"finished": true}']
