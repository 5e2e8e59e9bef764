"""Every setting of rgrid, with its bounds and its default: the only reader of the process environment.

A setting `x_y` is the variable `RGRID_X_Y`; what may be secret can also stand in the file that `RGRID_X_Y_FILE` names.
"""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta

from rgrid.kernel import rates
from rgrid.kernel.errors import Invalid

Origin = Literal["default", "environment", "file", "flag"]
PREFIX: Final = "RGRID_"
_FILE_SUFFIX: Final = "_FILE"
_FILE_BYTES_MAX: Final = 64 * 1024
_MIB: Final = 1024 * 1024
_GIB: Final = 1024 * _MIB

# Set by rgrid for the scripts it runs, or read by the test suite: known names that are not settings.
_KNOWN_BESIDE: Final = (
    "RGRID_EXECUTION_ID",
    "RGRID_ATTEMPT",
    "RGRID_BATCH_ID",
    "RGRID_BATCH_INDEX",
    "RGRID_SCHEDULED_AT",
    "RGRID_TEST_STRICT",
)


class BadSetting(Invalid):
    """A setting can't be used as it is; `fields` names every variable that is wrong."""

    code = "bad_setting"


def default_data_dir() -> Path:
    """Where an installation keeps its data when nobody says otherwise."""
    if os.geteuid() == 0:
        # Root's home is closed to the user that Postgres must run as.
        return Path("/var/lib/rgrid")
    base = os.environ.get("XDG_DATA_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "share") / "rgrid"


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _says(text: str) -> Any:
    return Meta(description=text)


Seconds = Annotated[int, Meta(ge=1, le=366 * 86_400)]
Bytes = Annotated[int, Meta(ge=1, le=1 << 50)]
Days = Annotated[int, Meta(ge=1, le=36_500)]
LogDays = Annotated[int, Meta(ge=7, le=36_500)]
LogLevel = Literal["debug", "info", "warning", "error"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One process' configuration. `origins` says where each value that isn't a default came from."""

    # Where the service listens and keeps things.
    host: Annotated[str, _says("address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535), _says("port to listen on; 0 takes a free one")] = 8000
    data_dir: Annotated[Path, _says("folder of the database, the objects and the keys")] = msgspec.field(
        default_factory=default_data_dir
    )
    slots: Annotated[int, Meta(ge=0, le=4096), _says("scripts at a time in this process; 0 runs none")] = msgspec.field(
        default_factory=usable_cores
    )
    scheduler: Annotated[bool, _says("whether schedules fire from this service; `rgrid scheduler` does only that")] = (
        True
    )
    database_url: Annotated[str | None, _says("a Postgres (14 or newer) instead of the embedded one")] = None
    postgres_bin: Annotated[Path | None, _says("folder of the Postgres programs that the embedded server uses")] = None
    objects_url: Annotated[str | None, _says("folder of objects, shared by all processes, or s3://bucket/prefix")] = (
        None
    )
    objects_endpoint: Annotated[str | None, _says("address of the S3 service; Amazon's if not set")] = None
    objects_region: Annotated[str, Meta(min_length=1), _says("region of the bucket")] = "us-east-1"
    objects_access_key: Annotated[str | None, _says("the S3 key's name")] = None
    objects_secret_key: Annotated[str | None, _says("the S3 key's secret")] = None
    objects_public_url: Annotated[
        str | None, _says("address under which clients reach the S3 service; if not set, files go through this one")
    ] = None
    objects_quota_bytes: Annotated[Bytes, _says("bytes that all kept files may take together")] = 1 << 50
    public_url: Annotated[str | None, _says("address under which clients reach this service")] = None
    log_level: Annotated[LogLevel, _says("how much the service says")] = "info"
    workflows: Annotated[Path | None, _says("folder whose workflow definitions are applied, also when they change")] = (
        None
    )

    # Keys and who may do what.
    bootstrap_key: Annotated[str | None, _says("the first admin key, instead of a generated one")] = None
    encryption_key: Annotated[str | None, _says("32 bytes in base64 or hex that wrap the keys of secret values")] = None
    secret_env_prefix: Annotated[
        str, Meta(min_length=1), _says("only variables that begin so can be env: references")
    ] = "RGRID_SECRET_"  # noqa: S105 (a prefix of names, no secret)
    secrets_dir: Annotated[Path, _says("the only folder that file: references read")] = Path("/run/secrets")
    rate_limit: Annotated[int, Meta(ge=1, le=10_000_000), _says("requests a second for each key")] = 1000
    rate_burst: Annotated[int, Meta(ge=1, le=10_000_000), _says("requests at once for each key")] = 5000
    metrics_open: Annotated[bool, _says("whether /metrics needs no key")] = False
    cors_origins: Annotated[tuple[str, ...], _says("origins of browsers that may call, with commas")] = ()

    # How a request is bounded.
    body_max_bytes: Annotated[Bytes, _says("largest request body")] = 16 * _MIB
    logs_body_max_bytes: Annotated[Bytes, _says("largest body of log lines")] = 8 * _MIB
    idempotency_ttl_s: Annotated[Seconds, _says("how long an Idempotency-Key is remembered")] = 86_400
    upload_ttl_s: Annotated[Seconds, _says("how long an upload URL is valid")] = 3600
    download_ttl_s: Annotated[Seconds, _says("how long a download URL is valid unless asked otherwise")] = 3600
    inputs_deadline_s: Annotated[Seconds, _says("how long an execution waits for its inputs")] = 3600
    position_wait_s: Annotated[Seconds, _says("how long Rgrid-Min-Position waits")] = 5
    shutdown_grace_s: Annotated[Seconds, _says("how long running requests may take at shutdown")] = 30

    # Workers and what a script may use.
    min_sandbox: Annotated[str | None, _says("run no script below this sandbox level")] = None
    lease_ttl_s: Annotated[Seconds, _says("an attempt is lost after this long without a renewal")] = 60
    renew_every_s: Annotated[Seconds, _says("how often a worker renews its leases")] = 10
    drain_s: Annotated[Seconds, _says("how long running scripts may go on at a stop; then others run them anew")] = 20
    install_timeout_s: Annotated[Seconds, _says("how long the dependencies of a script may install")] = 600
    environments_max_bytes: Annotated[Bytes, _says("bytes kept of installed dependencies, on each machine")] = 20 * _GIB
    environments_keep_days: Annotated[Days, _says("days that dependencies are kept after their last use")] = 30
    runtimes: Annotated[
        dict[str, list[str]], _says('more runtimes as JSON, such as {"r:4.4": ["/usr/bin/Rscript"]}')
    ] = {}
    attempt_log_max_bytes: Annotated[Bytes, _says("log bytes kept of one attempt")] = 10 * _MIB
    attempt_log_max_lines: Annotated[int, Meta(ge=1, le=1 << 40), _says("log lines kept of one attempt")] = 200_000
    outputs_max_files: Annotated[int, Meta(ge=1, le=1_000_000), _says("output files of one attempt")] = 1000
    outputs_max_bytes: Annotated[Bytes, _says("output bytes of one attempt")] = _GIB
    disk_quota_bytes: Annotated[Bytes, _says("bytes a script may keep in its working directory")] = 10 * _GIB
    rate_micros_per_vcpu_hour: Annotated[
        int, Meta(ge=0, le=1 << 50), _says("price of one vCPU-hour in micros of a euro")
    ] = 8000
    cost_rates: Annotated[
        tuple[rates.Rate, ...], _says("prices with their validity: a JSON list, or a TOML file with [[rates]]")
    ] = ()

    # How long things are kept after their execution has ended.
    artifacts_keep_days: Annotated[Days, _says("days that inputs and artifacts are kept")] = 30
    logs_archive_after_s: Annotated[
        int, Meta(ge=60, le=366 * 86_400), _says("when log lines move from the database to the object store")
    ] = 3600
    logs_keep_days: Annotated[LogDays, _says("days that log lines are kept, 7 at least")] = 30

    # What the command line uses to find the service.
    api_url: Annotated[str | None, _says("the service that the command line talks to")] = None
    api_key: Annotated[str | None, _says("the key that the command line sends")] = None
    profile: Annotated[str | None, _says("the saved service that the command line talks to")] = None

    origins: dict[str, Origin] = {}


SECRETS: Final = frozenset(
    {"database_url", "bootstrap_key", "encryption_key", "api_key", "objects_access_key", "objects_secret_key"}
)
_HINTS: Final = get_type_hints(Settings, include_extras=True)
NAMES: Final = tuple(name for name in Settings.__struct_fields__ if name != "origins")


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """One setting as `rgrid doctor` shows it: a secret's value is `***`."""

    name: str
    value: str | None
    default: str | None
    origin: Origin
    meaning: str


def load(overrides: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process; `overrides` (flags of the command line) win, those that are None count as
    not given. Raises BadSetting that names every variable that is wrong."""
    environ = os.environ if environ is None else environ
    values: dict[str, object] = {}
    origins: dict[str, Origin] = {}
    wrong: list[tuple[str, str]] = []
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    assert given.keys() <= set(NAMES), f"no such setting: {sorted(given.keys() - set(NAMES))}"
    for name in NAMES:
        try:
            found = _found(name, given, environ)
        except ValueError as problem:
            wrong.append((variable(name), str(problem)))
            continue
        if found is not None:
            values[name], origins[name] = found
    _check_together(values, wrong)
    if wrong:
        raise BadSetting("; ".join(f"{name}: {problem}" for name, problem in wrong) + ".", fields=wrong)
    return Settings(**values, origins=origins)  # type: ignore[arg-type]


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def describe(settings: Settings) -> list[Described]:
    """Every setting in the order of their declaration, secrets hidden."""
    defaults = Settings()
    return [
        Described(
            name=variable(name),
            value=_shown(name, getattr(settings, name)),
            default=_shown(name, getattr(defaults, name)),
            origin=settings.origins.get(name, "default"),
            meaning=_meaning(name),
        )
        for name in NAMES
    ]


def unknown_names(environ: Mapping[str, str] | None = None) -> list[tuple[str, str | None]]:
    """Names in the environment that look like settings of rgrid and are none, each with the nearest known one."""
    environ = os.environ if environ is None else environ
    known = {variable(name) for name in NAMES} | set(_KNOWN_BESIDE)
    known |= {variable(name) + _FILE_SUFFIX for name in SECRETS}
    secrets = environ.get(variable("secret_env_prefix")) or Settings().secret_env_prefix
    strangers = sorted(
        name for name in environ if name.startswith(PREFIX) and name not in known and not name.startswith(secrets)
    )
    return [(name, next(iter(difflib.get_close_matches(name, known, n=1)), None)) for name in strangers]


def inherited(*names: str) -> dict[str, str]:
    """Those of the named variables that this process has: for child processes that need them."""
    return {name: os.environ[name] for name in names if name in os.environ}


def _found(name: str, given: Mapping[str, object], environ: Mapping[str, str]) -> tuple[object, Origin] | None:
    """The value of a setting and where it came from, or None when nobody set it. Raises ValueError."""
    if name in given:
        return _converted(name, given[name]), "flag"
    text = environ.get(variable(name))
    path = environ.get(variable(name) + _FILE_SUFFIX) if name in SECRETS else None
    if text and path:
        raise ValueError(f"is set, and {variable(name)}{_FILE_SUFFIX} too; keep one of them")
    if path:
        return _converted(name, _read(Path(path))), "file"
    # An empty variable means "not set": container tools can't remove one, only empty it.
    return (_converted(name, text), "environment") if text else None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES_MAX + 1)
    except OSError as problem:
        raise ValueError(f"its file {path} can't be read ({problem.strerror})") from None
    if len(content) > _FILE_BYTES_MAX:
        raise ValueError(f"its file {path} is larger than {_FILE_BYTES_MAX} bytes")
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        raise ValueError(f"its file {path} is not UTF-8 text") from None
    if not text:
        raise ValueError(f"its file {path} is empty")
    return text


def _converted(name: str, value: object) -> object:
    """The value in the type of the setting. The message of the error never repeats a secret."""
    kind = _HINTS[name]
    if isinstance(value, str) and name == "cost_rates":
        return rates.parse(value if value.lstrip().startswith("[") else _read(Path(value).expanduser()))
    if isinstance(value, str) and kind.__origin__ == dict[str, list[str]]:
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError:
            raise ValueError("must be JSON: an object with a list of texts for each name") from None
    elif isinstance(value, str):
        if kind.__origin__ == tuple[str, ...]:
            value = tuple(part.strip() for part in value.split(",") if part.strip())
        elif kind.__origin__ == LogLevel:
            value = value.lower()
    try:
        return msgspec.convert(value, kind, strict=False, dec_hook=_path)
    except msgspec.ValidationError:
        said = "" if name in SECRETS else f", not {str(value)!r}"
        raise ValueError(f"must be {_expected(kind)}{said}") from None


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str | Path):
        # Absolute, because the process that uses it may stand in another folder.
        return Path(value).expanduser().absolute()
    raise NotImplementedError(kind)


def _check_together(values: Mapping[str, object], wrong: list[tuple[str, str]]) -> None:
    """The rules between two settings."""
    bad = {name for name, _ in wrong}
    if bad & {variable("renew_every_s"), variable("lease_ttl_s")}:
        return
    defaults = Settings()
    renew_s = values.get("renew_every_s", defaults.renew_every_s)
    ttl_s = values.get("lease_ttl_s", defaults.lease_ttl_s)
    assert isinstance(renew_s, int)
    assert isinstance(ttl_s, int)
    if renew_s * 2 > ttl_s:
        wrong.append(
            (variable("renew_every_s"), "must be at most half of RGRID_LEASE_TTL_S, or one late renewal loses work")
        )


def _shown(name: str, value: object) -> str | None:
    if value is None:
        return None
    if name in SECRETS:
        return "***"
    if name == "cost_rates":
        return msgspec.json.encode(value).decode() if value else ""
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode() if value else None
    return str(value).lower() if isinstance(value, bool) else str(value)


def _meaning(name: str) -> str:
    notes = [note.description for note in get_args(_HINTS[name])[1:] if isinstance(note, Meta)]
    return next((note for note in reversed(notes) if note), "")


def _expected(kind: Any) -> str:
    """What a good value looks like, in words."""
    bare = kind.__origin__
    if bare is bool:
        return "true or false"
    if bare == dict[str, list[str]]:
        return "JSON: an object with a list of texts for each name"
    if bare == LogLevel:
        return "one of " + ", ".join(get_args(LogLevel))
    if bare is int:
        bounds = [note for note in get_args(kind)[1:] if note.ge is not None]
        assert bounds, "every number has bounds"
        return f"a whole number from {bounds[0].ge} to {bounds[0].le}"
    return "a text that isn't empty" if bare is str else "a text"
