"""Where packages come from: this machine's settings of pip and uv, in the words of uv.

Whoever runs the service has told pip or uv once how to reach an index, and should not have to say it again. Only what
is named here is taken; the rest of the service's environment stays outside the installer's box.
"""

import configparser
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from rgrid import settings

_log = logging.getLogger(__name__)

_UV: Final = (
    "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX_STRATEGY",
    "UV_INSECURE_HOST", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS", "UV_HTTP_TIMEOUT", "UV_HTTP_RETRIES", "UV_EXCLUDE_NEWER",
    "UV_PRERELEASE", "UV_OFFLINE",
)  # fmt: skip
_NETWORK: Final = (
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "SSL_CERT_FILE",
)  # fmt: skip
# By the name of the setting in pip.conf; the variable of the same meaning is PIP_…
_PIP: Final = (
    "index-url",
    "extra-index-url",
    "find-links",
    "no-index",
    "trusted-host",
    "cert",
    "proxy",
    "timeout",
    "default-timeout",
    "retries",
)
_PIP_NAMES: Final = tuple("PIP_" + name.upper().replace("-", "_") for name in _PIP)
_PLACES: Final = ("PIP_CONFIG_FILE", "UV_CONFIG_FILE")
_SYSTEM_BUNDLES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
# A box shows these folders already, or has its own in their place.
_NOT_SHOWN: Final = ("/usr", "/etc", "/proc", "/dev", "/sys")


class PackageIndex(msgspec.Struct, frozen=True, kw_only=True):
    """`env` is uv's environment, `folders` what it names on this machine, `masked` what no log line may repeat."""

    env: dict[str, str] = {}
    no_index: bool = False
    certificates: Path | None = None
    uv_config: Path | None = None
    folders: tuple[Path, ...] = ()
    masked: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """What decides which packages are found."""
        names = [name for name in _UV if "INDEX" in name or name in ("UV_FIND_LINKS", "UV_EXCLUDE_NEWER")]
        config = self.uv_config.read_text() if self.uv_config else ""
        return "\n".join([*(self.env.get(name, "") for name in names), str(self.no_index), config])


def of_this_machine() -> PackageIndex:
    """From the environment of this process and the files that pip and uv would read for its user."""
    home = Path.home()
    files = [Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
    configs = [home / ".config/uv/uv.toml", Path("/etc/uv/uv.toml")]
    return read(settings.inherited(*_UV, *_NETWORK, *_PIP_NAMES, *_PLACES), files, configs)


def read(environ: Mapping[str, str], pip_files: Sequence[Path], uv_files: Sequence[Path]) -> PackageIndex:
    """uv's own variables win over pip's, and pip's variables over its files, the later ones over the earlier ones."""
    named = environ.get("PIP_CONFIG_FILE")
    pip = _pip_files([*pip_files, *([Path(named)] if named else [])])
    pip |= {name: environ[var] for name, var in zip(_PIP, _PIP_NAMES, strict=True) if environ.get(var)}
    env = {name: environ[name] for name in (*_UV, *_NETWORK) if environ.get(name)}
    _translate(pip, env)
    certificates = env.pop("SSL_CERT_FILE", None) or pip.get("cert")
    if any(Path(bundle).exists() for bundle in _SYSTEM_BUNDLES):
        # What the machine trusts, beside or instead of what the installer brought along: a private authority is there.
        env.setdefault("UV_SYSTEM_CERTS", "1")
    found = [*([Path(environ["UV_CONFIG_FILE"])] if environ.get("UV_CONFIG_FILE") else []), *uv_files]
    return PackageIndex(
        env=env,
        no_index=pip.get("no-index", "").lower() in ("1", "true", "yes", "on"),
        certificates=Path(certificates) if certificates and Path(certificates).is_file() else None,
        uv_config=next((path for path in found if _is_readable(path)), None),
        folders=tuple(dict.fromkeys(_folders(env))),
        masked=tuple(dict.fromkeys(_credentials(env))),
    )


def _pip_files(files: Sequence[Path]) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in files:
        if not _is_readable(file):
            continue
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(file.read_text())
        except (configparser.Error, UnicodeDecodeError) as problem:
            _log.warning("%s is not read: %s", file, problem)
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                given = {name.replace("_", "-"): value for name, value in parser.items(section)}
                found |= {name: given[name] for name in _PIP if given.get(name)}
    return found


def _is_readable(file: Path) -> bool:
    return file.is_file() and os.access(file, os.R_OK)


def _translate(pip: Mapping[str, str], env: dict[str, str]) -> None:
    if "index-url" in pip and not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & env.keys():
        env["UV_DEFAULT_INDEX"] = pip["index-url"].strip()
    if "extra-index-url" in pip and not {"UV_INDEX", "UV_EXTRA_INDEX_URL"} & env.keys():
        env["UV_EXTRA_INDEX_URL"] = " ".join(pip["extra-index-url"].split())
        # pip takes the best version of all its indexes; uv would stop at the first index that knows the package.
        env.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    if "find-links" in pip:
        env.setdefault("UV_FIND_LINKS", ",".join(pip["find-links"].split()))
    if "trusted-host" in pip:
        env.setdefault("UV_INSECURE_HOST", " ".join(pip["trusted-host"].split()))
    if "proxy" in pip and not {"ALL_PROXY", "all_proxy"} & env.keys():
        env["ALL_PROXY"] = pip["proxy"].strip()
    if pip.get("retries", "").strip().isdecimal():
        env.setdefault("UV_HTTP_RETRIES", pip["retries"].strip())
    timeout = (pip.get("timeout") or pip.get("default-timeout") or "").strip()
    if timeout.isdecimal():
        env.setdefault("UV_HTTP_TIMEOUT", timeout)


def _addresses(env: Mapping[str, str]) -> list[str]:
    """Each index or folder of packages; an index may be written as name=address."""
    texts = [env.get(name, "") for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")]
    words = [word for text in texts for word in text.split()] + env.get("UV_FIND_LINKS", "").replace(",", " ").split()
    return [word.partition("=")[2] if "://" in word.partition("=")[2] else word for word in words]


def _folders(env: Mapping[str, str]) -> list[Path]:
    found = []
    for address in _addresses(env):
        parts = urlsplit(address)
        if parts.scheme not in ("", "file"):
            continue
        folder = Path(unquote(parts.path) if parts.scheme else address)
        # The pages of an index usually name files that lie beside it.
        folder = folder.parent if folder.name == "simple" and folder.parent != Path("/") else folder
        if folder.is_absolute() and folder.is_dir() and not any(folder.is_relative_to(one) for one in _NOT_SHOWN):
            found.append(folder)
    return found


def _credentials(env: Mapping[str, str]) -> list[str]:
    urls = [urlsplit(address) for address in [*_addresses(env), *(env.get(name, "") for name in _NETWORK[:7])]]
    given = [text for url in urls for text in (url.password, url.username) if text]
    return [spelling for text in given for spelling in (text, unquote(text))]
