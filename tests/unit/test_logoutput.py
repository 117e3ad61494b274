"""Whether the log goes to the journal: by the device and inode of standard error, not by the variable alone."""

from __future__ import annotations

import os
import socket

import pytest

from forkserver.settings import FIELDS, Settings, decode
from forkserver.supervisor import logoutput


def stream() -> str:
    status = os.fstat(2)
    return f"{status.st_dev}:{status.st_ino}"


def test_auto_is_journal_where_standard_error_is_the_stream_that_is_named(monkeypatch):
    monkeypatch.setenv("JOURNAL_STREAM", stream())
    assert logoutput.choose_form("auto") == "journal"


@pytest.mark.parametrize("named", ["", "1:2", "nonsense", ":", "0:0"])
def test_auto_is_plain_where_another_stream_is_named_or_none(monkeypatch, named):
    monkeypatch.setenv("JOURNAL_STREAM", named)
    assert logoutput.choose_form("auto") == "plain"
    monkeypatch.delenv("JOURNAL_STREAM")
    assert logoutput.choose_form("auto") == "plain"


@pytest.fixture
def logger(monkeypatch):
    """Standard error is a socket to this."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    monkeypatch.setattr(logoutput, "_STDERR_FD", theirs.fileno())
    with ours, theirs:
        yield ours


def test_auto_is_syslog_where_standard_error_is_a_logger_s_socket_even_while_there_is_no_logger(logger, monkeypatch):
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    assert logoutput.choose_form("auto") == "syslog"
    logger.close()
    assert logoutput.choose_form("auto") == "syslog"
    assert logoutput.choose_form("plain") == "plain"


@pytest.mark.parametrize("form", ["plain", "json", "syslog"])
def test_what_was_chosen_is_not_overruled_by_the_environment(monkeypatch, form):
    monkeypatch.setenv("JOURNAL_STREAM", stream())
    assert logoutput.choose_form(form) == form


def test_a_master_gets_the_decision_and_every_other_setting_as_it_was(monkeypatch):
    monkeypatch.setenv("JOURNAL_STREAM", stream())
    settings = Settings(root="/srv", bind=("::1", "127.0.0.1"), spare=3, hidden=True, drain_s=1.5)
    sent = decode(logoutput.with_chosen_form(settings).encode())
    assert sent.log_format == "journal"
    assert settings.log_format == "auto"
    others = [name for name in FIELDS if name != "log_format"]
    assert [getattr(sent, name) for name in others] == [getattr(settings, name) for name in others]
