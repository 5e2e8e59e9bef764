"""Where an installation keeps what does not lie in the database."""

from pathlib import Path

import pytest

from rgrid.assembly import storage
from rgrid.settings import BadSetting, load


@pytest.mark.parametrize("address", ["/srv/objects", "file:///srv/objects"])
def test_objects_lie_in_the_folder_that_was_named(address: str) -> None:
    assert storage(load({"objects_url": address}, {})) == Path("/srv/objects")


def test_objects_lie_in_the_data_folder_when_none_was_named() -> None:
    assert storage(load({"data_dir": "/srv/data"}, {})) == Path("/srv/data")


@pytest.mark.parametrize("address", ["s3://bucket/prefix", "objects", "https://objects.example.com"])
def test_an_address_that_is_no_folder_is_refused_and_not_ignored(address: str) -> None:
    with pytest.raises(BadSetting, match="RGRID_OBJECTS_URL must be a folder"):
        storage(load({"objects_url": address}, {}))
