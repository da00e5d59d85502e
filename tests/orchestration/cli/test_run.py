import errno
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dagster as dg
import pytest

from ml.data.download import OfflineError, fetch_movielens
from ml.errors import DataError
from orchestration.__main__ import main as command
from orchestration.cli.run import announce, choose_source
from orchestration.resources.raw_data import LastSource, RawData, last_source
from tests.orchestration.conftest import failure_text, run_job


@pytest.fixture(autouse=True)
def _no_proxy(env: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        env.setenv(name, "127.0.0.1")


def use_archive(env: pytest.MonkeyPatch, url: str) -> None:
    """Have the official archive elsewhere."""
    env.setattr("ml.data.source.fetch_movielens", partial(fetch_movielens, url=url))


@pytest.fixture
def unreachable(env: pytest.MonkeyPatch) -> Iterator[str]:
    """The archive's address, where nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/ml-1m.zip"
        use_archive(env, url)
        yield url


class _Altered(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404 if "missing" in self.path else 200)
        self.send_header("Content-Length", "7")
        self.end_headers()
        self.wfile.write(b"altered")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def altered(env: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that gives another archive than the official one."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Altered)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_directory_of_the_environment_is_chosen(
    env: pytest.MonkeyPatch, small_raw_directory: Path, unreachable: str
) -> None:
    env.setenv("MOVIELENS_DIR", str(small_raw_directory))
    assert choose_source() == (LastSource(str(small_raw_directory)), "")


def test_cached_archive_is_chosen(small_raw_directory: Path, tmp_path: Path, unreachable: str) -> None:
    shutil.copytree(small_raw_directory, tmp_path / "cache" / "ml-1m")
    assert choose_source() == (LastSource("ml-1m"), "")


def test_generated_data_stands_in_where_the_machine_is_offline(unreachable: str) -> None:
    source, note = choose_source()
    assert source == LastSource("synthetic", is_stand_in=True)
    assert "offline" in note
    assert f"{unreachable}: cannot be reached" in note


@pytest.mark.parametrize(("path", "reason"), [("ml-1m.zip", "not the official"), ("missing.zip", "404")])
def test_archive_that_cannot_be_used_is_no_reason_for_generated_data(
    env: pytest.MonkeyPatch, altered: str, path: str, reason: str
) -> None:
    url = f"{altered}/{path}"
    use_archive(env, url)
    with pytest.raises(DataError, match=reason) as caught:
        choose_source()
    assert not isinstance(caught.value, OfflineError)
    assert url in str(caught.value)


def test_command_ends_with_the_reason(
    env: pytest.MonkeyPatch, altered: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use_archive(env, f"{altered}/ml-1m.zip")
    assert command(["run"]) == 1
    assert "the archive is not the official one" in capsys.readouterr().err
    assert not (tmp_path / "home" / "tables").exists()


def test_job_never_changes_the_source(unreachable: str, tmp_path: Path, instance: dg.DagsterInstance) -> None:
    result = run_job(instance, {}, raise_on_error=False)
    assert not result.success
    text = failure_text(result, "raw_movielens")
    assert text.startswith(f"{unreachable}: cannot be reached")
    assert "MOVIELENS_DIR" in text
    assert not (tmp_path / "home" / "tables").exists()


def test_a_source_that_cannot_be_used_launches_nothing(
    env: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env.setenv("MOVIELENS_DIR", str(tmp_path / "nowhere"))
    assert command(["run"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {tmp_path / 'nowhere'}: no such directory")
    assert printed.count("\n") == 1
    (tmp_path / "nowhere").mkdir()
    (tmp_path / "nowhere" / "users.dat").write_text("1::F::1::10::48067\n")
    assert command(["run"]) == 1
    assert "lacks movies.dat, ratings.dat" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


def test_the_home_remembers_its_source(
    env: pytest.MonkeyPatch, small_raw_directory: Path, unreachable: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert last_source() is None
    env.setenv("MOVIELENS_DIR", str(small_raw_directory))
    announce("random")
    env.delenv("MOVIELENS_DIR")
    # Without the variable, a launch by hand, by the schedule and by make run all take the same.
    assert RawData().prepare() == small_raw_directory
    assert choose_source() == (LastSource(str(small_raw_directory)), ", as in the last run")
    assert "as in the last run" in announce("random")[1]
    env.setenv("MOVIELENS_DIR", "synthetic-small")
    assert RawData().dataset == "synthetic-small"  # the variable wins


def test_generated_data_that_stood_in_gives_way_once_the_archive_can_be_had(
    env: pytest.MonkeyPatch, small_raw_directory: Path, tmp_path: Path, unreachable: str
) -> None:
    RawData(source="synthetic").remember(is_stand_in=True)
    assert RawData().dataset == "synthetic"  # at night, nothing changes the source
    assert choose_source()[0] == LastSource("synthetic", is_stand_in=True)
    shutil.copytree(small_raw_directory, tmp_path / "cache" / "ml-1m")
    assert choose_source() == (LastSource("ml-1m"), "")


def test_a_damaged_memory_is_named(tmp_path: Path) -> None:
    RawData(source="synthetic").remember()
    path = tmp_path / "home" / "source.json"
    path.write_text("[]")
    with pytest.raises(DataError, match=r"source\.json: expected the source of the last run"):
        RawData().prepare()


@pytest.mark.parametrize("name", ["run", "ui", "months"])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_home_that_cannot_be_written_is_one_line(
    env: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, number: int
) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number), str(tmp_path / f".source.json.{'0' * 32}"))

    env.setattr(f"orchestration.cli.{name}.main", fail)
    assert command([name]) == 1
    told = f"error: {tmp_path}: no permission ({os.strerror(number)}); make it writable, or set PIPELINE_HOME to "
    assert capsys.readouterr().err == f"{told}another directory\n"


def test_other_errors_of_the_system_keep_their_traceback(env: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise OSError(errno.ENOSPC, "disk full", "file")

    env.setattr("orchestration.cli.ui.main", fail)
    with pytest.raises(OSError, match="disk full"):
        command(["ui"])
