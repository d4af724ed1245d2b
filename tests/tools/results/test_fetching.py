"""Sets by download: from a server on the loopback, whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from functools import partial

import pytest

from nbkit.runtime.errors import NbkitError
from nbkit.tools.results.fetching import fetch
from nbkit.tools.results.listing import Data

FILES = {"set-1.0/data/a.txt": b"one", "set-1.0/data/deep/b.txt": b"two", "set-1.0/other.txt": b"not asked for",
         "set-1.0/data/../../out.txt": b"leads out"}  # fmt: skip
SHA = {"a.txt": hashlib.sha256(b"one").hexdigest()}


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@pytest.fixture
def served(tmp_path):
    """Serve a folder with the files as a tar and as a zip, and one file that is neither; yield its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    with tarfile.open(folder / "set.tar.gz", "w:gz") as tar, zipfile.ZipFile(folder / "set.zip", "w") as archive:
        for name, content in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            archive.writestr(name, content)
    (folder / "torn.tar.gz").write_bytes((folder / "set.tar.gz").read_bytes()[:60])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("name", ["set.tar.gz", "set.zip"])
def test_a_set_is_unpacked_where_the_list_expects_it(served, tmp_path, name):
    fetch(Data("mine", "", f"{served}/{name}", "set-1.0/data", SHA), tmp_path / "data")
    folder = tmp_path / "data" / "mine"
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {"a.txt": b"one", "deep/b.txt": b"two"} and not list(tmp_path.rglob("out.txt"))


@pytest.mark.parametrize("name,sha,said", [
    ("set.tar.gz", {"a.txt": "0" * 64}, "a.txt of .* is another file"),
    ("set.tar.gz", {"c.txt": "0" * 64}, "SHA-256 not in it"),
    ("torn.tar.gz", SHA, "no whole archive"), ("nothing.zip", SHA, "mine was not downloaded"),
])  # fmt: skip
def test_what_is_not_the_set_leaves_nothing(served, tmp_path, name, sha, said):
    with pytest.raises(NbkitError, match=said):
        fetch(Data("mine", "", f"{served}/{name}", "set-1.0/data", sha), tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").glob("*") if path.name != "downloads"] == []
