"""Small packages made on the spot, in a folder that serves as index: real wheels for a real installer, no network."""

import io
import tarfile
import zipfile
from pathlib import Path

# A build backend without any dependency: it zips the one module that lies beside it.
_BACKEND = """
import zipfile

def get_requires_for_build_wheel(config_settings=None):
    return []

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel_directory + "/" + name, "w") as wheel:
        wheel.write("{name}.py")
        info = "{name}-{version}.dist-info"
        wheel.writestr(info + "/METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        tags = "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr(info + "/WHEEL", tags)
        wheel.writestr(info + "/RECORD", "")
    return name
"""


def wheel(folder: Path, name: str, version: str = "1.0", requires: tuple[str, ...] = (), **files: str) -> Path:
    """A wheel with one module of its own name, which knows its version; `files` are more modules."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    modules = {name: f"VERSION = {version!r}\n", **files}
    with zipfile.ZipFile(path, "w") as archive:
        for module, text in modules.items():
            archive.writestr(module if "." in module else f"{module}.py", text)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/entry_points.txt", f"[console_scripts]\nsay-{name} = {name}:say\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def source(folder: Path, name: str, version: str = "1.0", build: str = "") -> Path:
    """A package that comes as source only; `build` is what its build does first."""
    path = folder / f"{name}-{version}.tar.gz"
    system = 'requires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    project = f'[build-system]\n{system}\n[project]\nname = "{name}"\nversion = "{version}"\n'
    texts = {
        "pyproject.toml": project,
        "backend.py": build + _BACKEND.replace("{name}", name).replace("{version}", version),
        f"{name}.py": "BUILT = True\n",
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    }
    with tarfile.open(path, "w:gz") as archive:
        for inner, text in texts.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{inner}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path
