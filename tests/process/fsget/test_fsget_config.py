"""The configuration file: what it sets, what wins over it, and what is said of a bad one."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def write_config(environment):
    """Write the file at the usual path; gives the path."""

    def write(content: str | bytes) -> str:
        directory = environment["XDG_CONFIG_HOME"]
        os.makedirs(directory, exist_ok=True)
        path = os.path.join(directory, "fsget.toml")
        with open(path, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_the_file_names_the_server(fsget, lying_server, says, write_config):
    write_config(f'server = "{lying_server(says.file(b"x")).address}"\n')
    assert fsget("f").status == 0


def test_the_file_is_beneath_the_home_directory_where_no_other_place_is_named(
    fsget, lying_server, says, tmp_path, environment
):
    (tmp_path / ".config").mkdir()
    for unset in ("", "relative"):
        (tmp_path / ".config/fsget.toml").write_text(f'server = "{lying_server(says.file(b"x")).address}"\n')
        result = fsget("f", env={**environment, "HOME": str(tmp_path), "XDG_CONFIG_HOME": unset})
        assert (result.status, result.err) == (0, "")


def test_timeout_and_retries_are_heeded(fsget, lying_server, says, write_config):
    server = lying_server([says.busy], [says.hold])
    write_config(f'server = "{server.address}"\ntimeout = 0.2\nretries = 1\n')
    result = fsget("f")
    assert (result.status, "sent nothing for 0.2 s" in result.err) == (5, True)


def test_the_environment_wins_over_the_file_and_an_option_over_both(
    fsget, lying_server, says, write_config, environment
):
    nowhere = "127.0.0.1:1"
    write_config(f'server = "{nowhere}"\n')
    asked = lying_server(says.file(b"x")).address
    assert fsget("f", env={**environment, "FSGET_SERVER": asked}).status == 0
    asked = lying_server(says.file(b"x")).address
    assert fsget("-s", asked, "f", env={**environment, "FSGET_SERVER": nowhere}).status == 0


def test_servers_connections_rate_and_durability_can_stand_in_the_file(fsget, lying_server, says, write_config, place):
    server = lying_server(says.file(b"x")).address
    write_config(
        f'server = ["127.0.0.1:1", "{server}"]\nconnections = 2\nlimit-rate = "1M"\nfsync = "none"\nretries = 0\n'
    )
    assert fsget("f").status == 0
    assert (place / "f").read_bytes() == b"x"


def test_a_file_named_takes_the_place_of_the_usual_one(fsget, lying_server, says, write_config, place):
    write_config("nonsense")
    (place / "other.toml").write_text(f'server = "{lying_server(says.file(b"x")).address}"\n')
    assert fsget("--config", "other.toml", "f").status == 0
    assert "refused" in fsget("--config", "/dev/null", "-s", "127.0.0.1:1", "f").err


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("server = 5", "server: must be a string, or a list of strings; mend it, or take it out"),
        (
            'server = "host:port"',
            (
                "server: 'host:port': a port is a number from 1 to 65535; a server is HOST, HOST:PORT or [IPV6]:PORT; "
                "mend it, or take it out"
            ),
        ),
        ("timeout = true", "timeout: must be a number; mend it, or take it out"),
        ("timeout = nan", "timeout: must be more than 0 and at most 86400 seconds; mend it, or take it out"),
        ("retries = 1.5", "retries: must be a whole number; mend it, or take it out"),
        ("retries = -1", "retries: -1 is not in the range 0<=x<=1000.; mend it, or take it out"),
        ("server = []", "server: must be a string, or a list of strings; mend it, or take it out"),
        ("server = [5]", "server: must be a string, or a list of strings; mend it, or take it out"),
        (
            "limit-rate = 'x'",
            "limit-rate: 'x': must be bytes a second, 1024 at least, as 500K or 2.5M; mend it, or take it out",
        ),
        (
            "port = 1",
            "port: there is no such key; server, timeout, retries, connections, limit-rate and fsync are known",
        ),
        (
            "names = 'x'",
            "names: there is no such key; server, timeout, retries, connections, limit-rate and fsync are known",
        ),
        (
            '"\\u001b[31m" = 1',
            "\\x1b[31m: there is no such key; server, timeout, retries, connections, limit-rate and fsync are known",
        ),
        (
            "# it\nserver = me",
            'is not TOML: Invalid value (at line 2, column 10); a line of it is: server = "HOST:PORT"',
        ),
        (b"# it\n# \xff", "line 2 is not UTF-8; save the file as UTF-8"),
        (
            "#" * 70000,
            (
                "is longer than 65536 bytes, so it is no configuration; "
                "server, timeout, retries, connections, limit-rate and fsync are known"
            ),
        ),
    ],
)
def test_a_bad_file_is_a_wrong_usage_and_told_in_one_line(fsget, write_config, content, complaint):
    path = write_config(content)
    result = fsget("-s", "127.0.0.1:1", "--timeout", "1", "f")
    assert (result.status, result.out, result.err) == (2, "", f"fsget: {path}: {complaint}\n")


# Root reads everything, but for these capabilities.
AS_ANYBODY = 'exec setpriv --bounding-set=-dac_override,-dac_read_search "$@"' if os.geteuid() == 0 else ""


def test_a_file_without_the_right_to_read_it_is_told(fsget, write_config):
    path = write_config("")
    os.chmod(path, 0)
    result = fsget("f", first=AS_ANYBODY)
    assert (result.status, "fsget.toml: cannot be read: Permission denied; mend that" in result.err) == (2, True)


def test_a_directory_without_the_right_to_enter_it_has_no_file_of_ours(fsget, write_config):
    directory = os.path.dirname(write_config("nonsense"))
    os.chmod(directory, 0)
    assert fsget("-s", "127.0.0.1:1", "f", first=AS_ANYBODY).status == 5
    os.chmod(directory, 0o700)


def test_a_file_that_cannot_be_read_is_told(fsget, environment):
    os.makedirs(os.path.join(environment["XDG_CONFIG_HOME"], "fsget.toml"))
    result = fsget("f")
    assert result.status == 2
    assert "fsget.toml: cannot be read: Is a directory; mend that, or name another with --config" in result.err
    result = fsget("--config", "none.toml", "f")
    assert (result.status, result.err) == (
        2,
        "fsget: none.toml: cannot be read: No such file or directory; name another with --config\n",
    )


def test_help_is_there_whatever_the_file_says(fsget, write_config):
    write_config("nonsense")
    assert fsget("--help").status == 0


def test_without_a_file_and_without_a_slip_nothing_is_loaded_for_them(fsget, lying_server, says, environment):
    server = lying_server(says.file(b"x"))
    result = fsget("-s", server.address, "f", env={**environment, "PYTHONPROFILEIMPORTTIME": "1"})
    loaded = {line.rpartition("|")[2].strip() for line in result.err.splitlines()}
    assert "forkserver.client.command.run" in loaded
    assert loaded.isdisjoint({"tomllib", "forkserver.client.command.suggest", "forkserver.client.command.completion"})
