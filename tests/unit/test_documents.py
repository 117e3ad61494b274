"""README, manual pages and operations.md say of settings, options, statuses and the log what the code says."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from forkserver.errors import EX_BUG, EX_CONFIG
from forkserver.front import cli, configfile
from forkserver.logline import FORMS, INFO, PRIORITIES
from forkserver.protocol.messages import End
from forkserver.settings import FIELDS, Settings

if TYPE_CHECKING:
    from forkserver.settings import Value

REPOSITORY = Path(__file__).parents[2]
BENCHMARKS = (REPOSITORY / "docs/benchmarks.md").read_text(encoding="utf-8")
PEERS = ["**forkserver**, a child per connection", "rsync daemon", "vsftpd", "nginx", "Python http.server"]
"""The columns of the README's table, as docs/benchmarks.md has them."""
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
COMMAND_PAGE = (REPOSITORY / "docs/man/forkserver.8").read_text(encoding="utf-8")
OPERATIONS = (REPOSITORY / "docs/operations.md").read_text(encoding="utf-8")
FILE_PAGE = (REPOSITORY / "docs/man/forkserver.toml.5").read_text(encoding="utf-8")
STATUSES = ["0", "1", "2", "3", str(EX_BUG), str(cli.EX_OUTPUT), str(EX_CONFIG), str(cli.EX_INTERRUPTED)]

# The fields that a function of account.py returns are the keys of its one dictionary.
ACCOUNTS = {
    function.name: {
        str(ast.literal_eval(key))
        for node in ast.walk(function)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if key
    }
    for function in ast.parse((REPOSITORY / "forkserver/ipc/account.py").read_text(encoding="utf-8")).body
    if isinstance(function, ast.FunctionDef)
}
LOG = COMMAND_PAGE.split("\n.Sh LOG\n")[1].split("\n.Sh ")[0]


def events() -> dict[str, set[str]]:
    """The verbs logged in the code, each with the names of its fields."""
    found: dict[str, set[str]] = {}
    for path in (REPOSITORY / "forkserver").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "event":
                verb = node.args[0]
                assert isinstance(verb, ast.Constant), f"{path}:{node.lineno}: a verb that only shows when it runs"
                fields = {keyword.arg for keyword in node.keywords if keyword.arg}
                for keyword in node.keywords:
                    if not keyword.arg:  # **account(...)
                        assert isinstance(keyword.value, ast.Call)
                        fields |= ACCOUNTS[ast.unparse(keyword.value.func)]
                found.setdefault(str(verb.value), set()).update(fields)
    return found


def as_toml(value: Value) -> str:
    return json.dumps(value)


def entry(name: str) -> str:
    """What forkserver.toml(5) says of one setting."""
    return FILE_PAGE.split(f".It Va {name}\n")[1].split(".It ")[0].split(".El")[0]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 120


def test_the_readme_leads_to_every_document_and_every_link_has_an_end() -> None:
    links = set(re.findall(r"\]\(([^):#]+)\)", README))
    documents = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "docs").rglob("*") if path.is_file()}
    assert {path for path in documents if not path.endswith(".svg")} <= links
    assert {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"} <= links
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_the_hooks_before_a_commit_run_the_linters_of_ci() -> None:
    ci = (REPOSITORY / ".ci/run").read_text(encoding="utf-8").replace('"', "")
    linters = {found[0].strip() for found in re.finditer(r"(?<=/bin/)(ruff|mypy)( (?!--no-cache)[\w-]+)*", ci)}
    hooks = (REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert linters == {"ruff check", "ruff format --check", "mypy"}
    assert set(re.findall(r"entry: \.venv/bin/(.*)", hooks)) == linters


@pytest.mark.parametrize("name", sorted(path.name for path in (REPOSITORY / "docs").glob("*.md")))
def test_every_link_between_documents_has_an_end(name: str) -> None:
    text = (REPOSITORY / "docs" / name).read_text(encoding="utf-8")
    for path, _, heading in re.findall(r"\]\(([^):#]*)(#([^)]+))?\)", text):
        target = REPOSITORY / "docs" / (path or name)
        assert target.exists(), path
        if heading:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}


def test_the_readme_s_figures_are_those_of_the_benchmarks() -> None:
    sections = dict(re.findall(r"^##+ (.*)\n+((?:.*\n(?!##))*)", BENCHMARKS, re.MULTILINE))
    rows = {
        cells[0]: cells[1:] for cells in (row.strip("| ").split(" | ") for row in README.splitlines() if "|" in row)
    }
    for row, title, names in (
        ("connections/s, 1 KiB, 16 clients", "16 clients", PEERS),
        ("KiB of memory for an idle connection", "Memory of 1,000 idle connections", PEERS),
        ("10,000 files of 4 KiB", "A tree of files of 4 KiB", ["**fsget**", "rsync -a", None, "curl --parallel"]),
    ):
        [section] = [text for name, text in sections.items() if name.startswith(title)]
        for name, cell in zip(names, rows[row], strict=False):
            if name:
                [measured] = re.findall(rf"^\| {re.escape(name)}[^|]* \| ([\d.,]+)", section, re.MULTILINE)
                assert cell.split(" ")[0] == measured, f"{row}: {name}"
    [most] = re.findall(
        r"^\| \*\*forkserver\*\*, 100 connections per child \| ([\d,]+)", sections["16 clients"], re.MULTILINE
    )
    assert f"`connections_per_child = 100` gives {most} connections/s" in README


def test_the_page_of_the_file_has_every_setting_in_order() -> None:
    assert re.findall(r"^\.It Va (\w+)$", FILE_PAGE, re.MULTILINE) == list(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_the_page_of_the_file_has_meaning_bounds_and_default(name: str) -> None:
    field, text = FIELDS[name], entry(name)
    assert text.startswith(f"{field.meaning[0].upper()}{field.meaning[1:]}.\n")
    assert f"Default:\n.Li {as_toml(field.default)} .\n".replace('"', "\\(dq") in text
    if type(field.default) in (int, float):
        assert f" from {field.low:.15g} to {field.high:.15g}.\n" in text


def test_the_example_of_the_page_is_a_good_file(tmp_path: Path) -> None:
    example = FILE_PAGE.split(".Bd -literal -offset indent\n")[1].split(".Ed")[0]
    path = tmp_path / "example.toml"
    path.write_text(example, encoding="utf-8")
    settings = configfile.load(str(path), {"root": str(tmp_path)})
    assert settings.encode() != Settings(root=str(tmp_path)).encode()
    assert tomllib.loads(example)["root"] == "/srv/files"


def options_of(name: str) -> set[str]:
    return {
        option
        for parameter in cli.forkserver.commands[name].params
        if isinstance(parameter, click.Option)
        for option in (*parameter.opts, *parameter.secondary_opts)
    }


def described_options() -> set[str]:
    lines = "".join(re.findall(r"^\.It Fl .*$", COMMAND_PAGE, re.MULTILINE))
    return {f"--{option}" for option in re.findall(r"Fl -([a-z-]+)", lines)}


@pytest.mark.parametrize("name", cli.forkserver.commands)
def test_the_page_of_the_command_has_every_option(name: str) -> None:
    assert options_of(name) <= described_options()


def test_the_page_of_the_command_has_no_option_that_is_none() -> None:
    assert described_options() <= set().union(*map(options_of, cli.forkserver.commands)) | {"--help"}


def test_the_page_of_the_command_has_no_command_that_is_none() -> None:
    synopsis = COMMAND_PAGE.split("\n.Sh SYNOPSIS\n")[1].split("\n.Sh ")[0]
    described = {word for line in re.findall(r"^\.Cm (.*)$", synopsis, re.MULTILINE) for word in line.split(" | ")}
    assert described == set(cli.forkserver.commands)


@pytest.mark.parametrize("name", cli.forkserver.commands)
def test_the_page_of_the_command_has_every_command_in_synopsis_and_text(name: str) -> None:
    assert f".It Cm {name}\n" in COMMAND_PAGE
    synopsis = COMMAND_PAGE.split(".Sh SYNOPSIS\n")[1].split("\n.Sh ")[0]
    assert name in re.findall(r"\w+", " ".join(re.findall(r"^\.Cm (.*)$", synopsis, re.MULTILINE)))


def test_the_page_of_the_command_has_the_variables_that_its_options_read() -> None:
    read = {parameter.envvar for each in cli.forkserver.commands.values() for parameter in each.params}
    section = COMMAND_PAGE.split(".Sh ENVIRONMENT\n")[1].split("\n.Sh ")[0]
    assert {name for name in read if name} <= set(re.findall(r"[A-Z_]+", section))


def test_what_the_install_steps_put_on_the_machine_the_steps_of_removal_take_away() -> None:
    install = OPERATIONS.partition("```sh\n")[2].partition("```")[0]
    removal = OPERATIONS.partition("## Remove it\n")[2].partition("\n## ")[0]
    pages = re.findall(r"-t (\S+) docs/man/(\S+)", install)
    assert {name for _, name in pages} == {path.name for path in (REPOSITORY / "docs" / "man").iterdir()}
    programs = re.findall(r"/opt/forkserver/bin/(\w+)(?= .*/usr/local/bin/$)", install, re.MULTILINE)
    assert programs == ["forkserver", "fsget"]
    for path in (*(f"{place}/{name}" for place, name in pages), *(f"/usr/local/bin/{name}" for name in programs)):
        assert path in removal
    assert install.startswith("umask 022\n")


def test_statuses() -> None:
    section = COMMAND_PAGE.split(".Sh EXIT STATUS")[1].split(".Sh ")[0]
    assert re.findall(r"^\.It (\d+)$", section, re.MULTILINE) == STATUSES


def test_the_log_s_verbs_and_their_fields_are_those_of_the_code() -> None:
    described = {text.split("\n")[0]: text for text in LOG.split("\n.It Li ")[1:]}
    logged = events()
    assert set(described) == set(logged)
    for verb, fields in logged.items():
        sample = re.search(rf"^\.Dl \S+Z forkserver\[\d+\] {verb}( .*)?$", described[verb], re.MULTILINE)
        assert sample, verb
        assert set(re.findall(r"(?:^| )([a-z_]+)=", sample[1] or "")) == fields, verb


def test_the_operators_page_has_every_verb_of_the_log() -> None:
    section = OPERATIONS.split("## The log\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert sorted(verb for row in rows for verb in re.findall(r"`([a-z-]+)`", row)) == sorted(events())


def test_the_log_s_priorities_are_those_of_the_code() -> None:
    text = LOG.split("in front:\n")[1].split(".It Cm")[0]
    told = re.findall(r"^(\d) for\n\.Li (.*) ,$", text, re.MULTILINE)
    assert {verb: int(level) for level, verbs in told for verb in verbs.split(" , ")} == PRIORITIES
    assert f"{INFO} for all others" in text
    assert set(PRIORITIES) - set(events()) == set()


def test_the_log_s_forms_are_told() -> None:
    assert re.findall(r"^\.It Cm (\w+)$", LOG, re.MULTILINE) == [*FORMS, "auto"]


def test_the_log_s_outcomes_of_a_content_are_told() -> None:
    assert {end.value for end in End} - set(re.findall(r"[a-z-]+", LOG)) == set()
