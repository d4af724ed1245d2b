"""DANDI through its own client, against a server on this machine that answers as the archive's interface does."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nbkit.neuro.signals.intake.facts import RecordingError
from nbkit.neuro.signals.spikes import recordings
from nbkit.neuro.signals.spikes.dandi import dandi_assets, fetch_asset
from tests.neuro.signals.spikes.test_nwb import poisson, write

pytest.importorskip("dandi", reason="DANDI's client is not installed (pip install dandi)")
WHEN = "2026-01-01T00:00:00Z"


def version_of(name: str) -> dict:
    return {"version": name, "name": "made for a test", "asset_count": 2, "size": 9, "created": WHEN, "modified": WHEN,
            "status": "Published"}  # fmt: skip


@pytest.fixture
def archive(tmp_path):
    """The interface of an archive with one dandiset of two NWB files and a video; yields its address and its state."""
    body = write(tmp_path / "one.nwb", poisson(seconds=20.0)).read_bytes()
    state = {"short": False, "asked": []}

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state["asked"].append(self.path)
            path, _, query = self.path.partition("?")
            here = f"http://127.0.0.1:{self.server.server_port}"
            names = {"a1": "sub-a/rec.nwb", "a2": "sub-b/rec.nwb", "a3": "sub-b/film.mp4"}
            found = None
            if path == "/api/info/":
                services = {"api": {"url": f"{here}/api"}, "webui": None, "jupyterhub": None}
                found = {"version": "0.6.0", "schema_version": "0.6.10", "schema_url": "", "services": services,
                         "cli-minimal-version": "0.60.0", "cli-bad-versions": []}  # fmt: skip
            elif path == "/api/dandisets/000140/":
                found = {"identifier": "000140", "created": WHEN, "modified": WHEN, "contact_person": "x",
                         "embargo_status": "OPEN", "draft_version": version_of("draft"),
                         "most_recent_published_version": version_of("0.1.0")}  # fmt: skip
            elif path == "/api/dandisets/000140/versions/0.1.0/assets/":
                wanted = next(
                    (part[5:].replace("%2F", "/") for part in query.split("&") if part.startswith("path=")), ""
                )
                results = [
                    {"asset_id": key, "blob": "b", "zarr": None, "path": name, "size": len(body), "created": WHEN,
                     "modified": WHEN} for key, name in names.items() if name.startswith(wanted)
                ]  # fmt: skip
                found = {"count": len(results), "next": None, "previous": None, "results": results}
            elif path.startswith("/api/assets/") and path.endswith("/info/") and path.split("/")[3] in names:
                key = path.split("/")[3]
                found = {"asset_id": key, "blob": "b", "zarr": None, "path": names[key], "size": len(body),
                         "created": WHEN, "modified": WHEN, "metadata": {}}  # fmt: skip
            elif path.startswith("/api/assets/") and path.endswith("/download/"):
                sent = body[: len(body) // 2] if state["short"] else body
                self.send_response(200)
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)
                return
            text = json.dumps(found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/api", state, body
    server.shutdown()
    server.server_close()


def test_a_dandisets_nwb_files_are_listed_by_id_and_fetched_one_by_one(archive, tmp_path):
    url, state, body = archive
    rows = dandi_assets("DANDI:000140", url)
    assert [(row["asset"], row["path"], row["version"]) for row in rows] == [
        ("a1", "sub-a/rec.nwb", "0.1.0"),
        ("a2", "sub-b/rec.nwb", "0.1.0"),
    ]
    assert [row["asset"] for row in dandi_assets("000140/0.1.0:sub-b", url)] == ["a2"]
    assert not any("download" in path for path in state["asked"]), "nothing is fetched before its item"
    (tmp_path / "item").mkdir()
    assert fetch_asset(rows[1], tmp_path / "item", url).read_bytes() == body


def test_what_is_not_there_or_cut_short_is_refused(archive, tmp_path):
    url, state, _ = archive
    with pytest.raises(RecordingError, match="names no dandiset; give DANDI:000140"):
        dandi_assets("somewhere", url)
    with pytest.raises(RecordingError, match="999999"):
        dandi_assets("DANDI:999999", url)
    with pytest.raises(RecordingError, match="no NWB file whose path starts with 'sub-c'"):
        dandi_assets("DANDI:000140:sub-c", url)
    with pytest.raises(RecordingError, match="gone"):
        fetch_asset({"path": "gone.nwb", "asset": "gone"}, tmp_path, url)
    state["short"] = True
    with pytest.raises(RecordingError, match="the archive says"):
        fetch_asset({"path": "sub-a/rec.nwb", "asset": "a1"}, tmp_path, url)


def test_a_row_of_dandi_becomes_windows_and_its_file_is_not_kept(archive, tmp_path, monkeypatch):
    url, _, _ = archive
    monkeypatch.setattr(recordings, "dandi_assets", lambda path: dandi_assets(path, url))
    monkeypatch.setattr(recordings, "fetch_asset", lambda row, folder: fetch_asset(row, folder, url))
    rows = recordings.spike_rows("dandi", "DANDI:000140")
    assert [row["key"] for row in rows] == ["sub-a_rec", "sub-b_rec"]
    arrays = recordings.make_windows(rows[0], recordings.SpikeWindowSettings(bin_s=0.1))
    assert arrays["counts"].shape[1:] == (20, 3) and str(arrays["data"]) == "real"
