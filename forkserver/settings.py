"""The settings: defaults, bounds, units and the meaning of each field. Runs in every process of the server.

TOML and arguments are parsed in ``front.configfile``. A master gets its settings over the control channel, in the form
of ``encode`` and ``decode``.
"""

from __future__ import annotations

from forkserver import logline
from forkserver.protocol.messages import DEFAULT_PORT, MAX_LISTED_BYTES

MAX_CHILDREN = 32768
"""The upper bound of every count of processes: pid_max of a small machine."""

Value = str | int | float | bool | tuple[str, ...]


class Field:
    """One setting: its default, its bounds, and its meaning for people.

    The type of the default is the type of the setting. ``choices`` are the allowed words; empty: any word.
    """

    __slots__ = ("choices", "default", "high", "low", "meaning")

    def __init__(self, default: Value, low: float, high: float, meaning: str, *, choices: tuple[str, ...] = ()) -> None:
        self.choices = choices
        self.default = default
        self.low = low
        self.high = high
        self.meaning = meaning


FIELDS: dict[str, Field] = {
    "root": Field(".", 0, 0, "directory to serve; nothing outside it is served"),
    "bind": Field(
        ("127.0.0.1",), 0, 0, "addresses to listen on, unless systemd passes sockets: HOST, HOST:PORT or [HOST]:PORT"
    ),
    "port": Field(
        DEFAULT_PORT, 0, 65535, "port of the addresses that name none, unless systemd passes sockets; 0: any free port"
    ),
    "spare": Field(0, 0, MAX_CHILDREN, "idle children to keep forked ahead"),
    "connections_per_child": Field(
        1, 1, 1_000_000, "connections that a child serves, one after the other, before it exits"
    ),
    "max_children": Field(256, 1, MAX_CHILDREN, "most children at once; further connections wait in the backlog"),
    "max_per_peer": Field(
        0, 0, MAX_CHILDREN, "most connections of one peer (IPv6: of one /64); 0: half of max_children"
    ),
    "hidden": Field(default=False, low=0, high=1, meaning="serve and list names that begin with a dot"),
    "bare": Field(default=False, low=0, high=1, meaning="also speak the bare dialect of the lab exercise"),
    "log_format": Field(
        "auto", 0, 0, "form of the log's lines: plain, journal, json, syslog, or auto", choices=("auto", *logline.FORMS)
    ),
    "receipts": Field(default=True, low=0, high=1, meaning="log a receipt for every child that ended in order"),
    "request_s": Field(30.0, 0.1, 3600, "seconds within which a request line must be complete"),
    "idle_s": Field(60.0, 0.1, 86400, "seconds for which a connection may be idle between requests"),
    "stall_s": Field(30.0, 0.1, 3600, "seconds for which a peer may take nothing of what is sent"),
    "min_rate_bytes": Field(256, 0, 2**40, "bytes per second that a peer must take on average, after stall_s"),
    "listing_content_bytes": Field(
        MAX_LISTED_BYTES, 0, MAX_LISTED_BYTES, "longest file that is sent within a listing, if a client asks; 0: none"
    ),
    "drain_s": Field(30.0, 0.0, 86400, "seconds that transfers have to finish when the server is stopped"),
    "child_cpu_s": Field(3600, 1, 10**9, "processor seconds of one child (RLIMIT_CPU)"),
    "child_memory_bytes": Field(2**28, 2**26, 2**40, "address space of one child (RLIMIT_AS)"),
}


class SettingError(ValueError):
    """A setting that is wrong: its ``name``, and a ``complaint`` that says what to do."""

    def __init__(self, name: str, complaint: str) -> None:
        super().__init__(f"{name}: {complaint}")
        self.name = name
        self.complaint = complaint


class Settings:
    """All settings, checked and frozen. Attributes are the names in ``FIELDS``; seconds and bytes.

    Raises SettingError for a name that is not in ``FIELDS``, a value out of bounds and a value of a wrong type (an int
    may stand for a float).
    """

    __slots__ = tuple(FIELDS)

    root: str
    bind: tuple[str, ...]
    port: int
    spare: int
    connections_per_child: int
    max_children: int
    max_per_peer: int
    hidden: bool
    bare: bool
    log_format: str
    receipts: bool
    request_s: float
    idle_s: float
    stall_s: float
    min_rate_bytes: int
    listing_content_bytes: int
    drain_s: float
    child_cpu_s: int
    child_memory_bytes: int

    def __init__(self, **values: Value) -> None:
        for name in values:
            if name not in FIELDS:
                raise SettingError(name, "there is no such setting")
        for name, field in FIELDS.items():
            object.__setattr__(self, name, _checked(name, field, values.get(name, field.default)))
        if self.spare > self.max_children:
            raise SettingError("spare", f"{self.spare} is more than max_children, {self.max_children}; lower it")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: settings are frozen")

    @property
    def peer_limit(self) -> int:
        """The limit that ``max_per_peer`` stands for."""
        return self.max_per_peer or max(1, self.max_children // 2)

    def encode(self) -> bytes:
        """Return the settings as lines of ``name=value``, for ``decode``."""
        text = "".join([f"{name}={_to_text(getattr(self, name))}\n" for name in FIELDS])
        return text.encode("utf-8", "surrogateescape")


def decode(data: bytes) -> Settings:
    """Undo ``Settings.encode``. After an upgrade, ``data`` may come from another version of the program.

    A setting that only this version knows gets its default. Raises ValueError for a setting that only the other version
    knows, or that has another type or other bounds there.
    """
    values: dict[str, Value] = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n")[:-1]:
        name, _, text = line.partition("=")
        values[name] = _from_text(FIELDS[name].default, text) if name in FIELDS else text
    return Settings(**values)


def _checked(name: str, field: Field, value: Value) -> Value:
    default = field.default
    serves = isinstance(default, float) and type(value) is int
    if not serves and type(value) is not type(default):
        raise SettingError(name, f"must be {_TYPE_NAMES[type(default)]}, not {value!r}")
    if isinstance(value, (int, float)) and not field.low <= value <= field.high:
        raise SettingError(name, f"{value} is out of bounds; it must be from {field.low} to {field.high}")
    if serves:
        return float(value)  # type: ignore[arg-type] # check the bounds first: an int may be too large for a float
    if isinstance(value, str) and (not value or any(char in value for char in "\0\n\r")):
        raise SettingError(name, "must not be empty, nor hold NUL or line feed")
    if field.choices and value not in field.choices:
        raise SettingError(name, f"{value} is not one of {', '.join(field.choices)}")
    if isinstance(value, tuple) and (not value or any(not item or set(item) & set(" \n\0") for item in value)):
        raise SettingError(name, "must name at least one address, and none may be empty or hold a space")
    return value


_TYPE_NAMES = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list of strings",
}


def _to_text(value: Value) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(int(value) if isinstance(value, bool) else value)


def _from_text(default: Value, text: str) -> Value:
    if isinstance(default, bool):
        return text == "1"
    if isinstance(default, int):
        return int(text)
    if isinstance(default, float):
        return float(text)
    return tuple(text.split(" ")) if isinstance(default, tuple) else text
