"""Settings: defaults, bounds, types, and the form in which they travel to the master."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkserver.settings import FIELDS, SettingError, Settings, decode

if TYPE_CHECKING:
    from forkserver.settings import Value

NUMBERS = [name for name, field in FIELDS.items() if type(field.default) in (int, float)]


def test_the_defaults_are_valid_and_as_listed() -> None:
    settings = Settings()
    for name, field in FIELDS.items():
        assert getattr(settings, name) == field.default, name


def test_every_field_has_an_annotation_and_a_meaning() -> None:
    assert list(Settings.__annotations__) == list(FIELDS)
    assert all(field.meaning for field in FIELDS.values())


@pytest.mark.parametrize("max_children", [1, 2, 3, 256])
def test_max_per_peer_zero_stays_zero_and_stands_for_half_of_max_children(max_children: int) -> None:
    settings = decode(Settings(max_children=max_children).encode())
    assert (settings.max_per_peer, settings.peer_limit) == (0, max(1, max_children // 2))


def test_a_limit_for_each_peer_may_be_more_than_there_are_children() -> None:
    assert Settings(max_children=2, max_per_peer=100).peer_limit == 100


@pytest.mark.parametrize("name", NUMBERS)
def test_bounds_are_within(name: str) -> None:
    field = FIELDS[name]
    kind = type(field.default)
    for bound in (field.low, field.high):
        values: dict[str, Value] = {"max_children": 32768} if name == "spare" else {}
        values[name] = bound if kind is float else int(bound)
        assert getattr(Settings(**values), name) == bound


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("side", ["low", "high"])
def test_past_a_bound_is_refused(name: str, side: str) -> None:
    field = FIELDS[name]
    step = 1 if type(field.default) is int else 0.01
    value = field.low - step if side == "low" else field.high + step
    with pytest.raises(ValueError, match=f"^{name}: .* is out of bounds; it must be from"):
        Settings(**{name: value if type(field.default) is float else int(value)})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400, -(10**400)])
def test_numbers_beyond_every_bound_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"^request_s: .* is out of bounds"):
        Settings(request_s=value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "80"),
        ("port", True),
        ("port", 80.0),
        ("request_s", "1"),
        ("request_s", True),
        ("hidden", 1),
        ("hidden", "yes"),
        ("root", 5),
        ("root", b"/srv"),
        ("bind", "127.0.0.1"),
        ("bind", ["127.0.0.1"]),
    ],
)
def test_another_type_is_refused(name: str, value: Value) -> None:
    with pytest.raises(SettingError, match=f"^{name}: must be "):
        Settings(**{name: value})


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"root": ""}, "root: must not be empty"),
        ({"root": "a\0b"}, "root: must not be empty"),
        ({"root": "a\nb"}, "root: must not be empty"),
        ({"bind": ()}, "bind: must name at least one"),
        ({"bind": ("",)}, "bind: must name at least one"),
        ({"bind": ("a b",)}, "bind: must name at least one"),
        ({"bind": ("a", "b\n")}, "bind: must name at least one"),
        ({"spare": 9, "max_children": 8}, "spare: 9 is more than max_children, 8; lower it"),
        ({"log_format": "xml"}, "log_format: xml is not one of auto, plain, journal, json"),
        ({"prot": 80}, "prot: there is no such setting"),
    ],
)
def test_senseless_values_are_refused(values: dict[str, Value], complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{complaint}"):
        Settings(**values)


def test_an_int_serves_for_a_float() -> None:
    assert type(Settings(request_s=5).request_s) is float


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError, match="frozen"):
        Settings().port = 1


def _value(name: str) -> st.SearchStrategy[Value]:
    field = FIELDS[name]
    if isinstance(field.default, bool):
        return st.booleans()
    if isinstance(field.default, int):
        return st.integers(int(field.low), int(field.high))
    if isinstance(field.default, float):
        return st.floats(field.low, field.high)
    if field.choices:
        return st.sampled_from(field.choices)
    if isinstance(field.default, str):
        # Any byte but NUL, CR and LF, as os.fsdecode gives them.
        names = st.binary(min_size=1).map(lambda data: data.decode("utf-8", "surrogateescape"))
        return names.filter(lambda text: not set(text) & set("\0\r\n"))
    return st.lists(st.text(alphabet="abc.:[]%", min_size=1), min_size=1).map(tuple)


@given(st.fixed_dictionaries({}, optional={name: _value(name) for name in FIELDS if name != "spare"}))
def test_what_is_encoded_is_decoded(values: dict[str, Value]) -> None:
    settings = Settings(**values)
    copy = decode(settings.encode())
    assert [getattr(copy, name) for name in FIELDS] == [getattr(settings, name) for name in FIELDS]


def test_a_setting_that_the_other_version_did_not_send_has_its_default() -> None:
    assert decode(b"root=/srv\n").max_children == FIELDS["max_children"].default


@pytest.mark.parametrize("line", [b"prot=80", b"port=www", b"hidden=1\nport=0.5", b"root="])
def test_what_the_other_version_means_otherwise_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"prot: there is no such setting|invalid literal|root: must not be empty"):
        decode(line + b"\n")
