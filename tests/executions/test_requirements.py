"""What a script needs: lines in one spelling, metadata inside the script, and both together."""

import pytest

from rgrid.executions.requirements import BadRequirements, fits, inline, lines_of, merged

BLOCK = (
    "# /// script\n# requires-python = '>=3.11'\n# dependencies = [\n#   'rich',\n#   'Six>=1',\n# ]\n# ///\n"
    "import rich\n"
)


def test_equal_needs_are_equal_lines_however_they_are_written() -> None:
    text = (
        "# all\n\n  Requests [socks] >= 2 , <3  # why\r\nflask==3.0 ; python_version>='3.8'\n"
        "six\nSIX\npy_yaml\\\n  ==6\n"
    )
    assert lines_of(text) == [
        "requests[socks]<3,>=2",
        'flask==3.0; python_version >= "3.8"',
        "six",
        "py-yaml==6",
    ]


def test_hashes_and_the_options_of_an_index_are_kept() -> None:
    digest = "a" * 64
    text = (
        f"-i https://index.example/simple\n--extra-index-url=https://more.example\n--only-binary :all:\n"
        f"six==1.17 --hash=sha256:{digest}\n--require-hashes\nrich @ https://files.example/rich-1-py3-none-any.whl\n"
    )
    assert lines_of(text) == [
        "--index-url https://index.example/simple",
        "--extra-index-url https://more.example",
        "--only-binary :all:",
        f"six==1.17 --hash=sha256:{digest}",
        "--require-hashes",
        "rich @ https://files.example/rich-1-py3-none-any.whl",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "-r other.txt", "-rother.txt", "--requirement other.txt", "-c limits.txt", "-e .", "--editable=.", "./local",
        "/srv/local", "../up", "file:///etc/passwd", "wheel-1-py3-none-any.whl", "six @ file:///tmp/six.whl",
        "six @ ssh://host/six", "-f /srv/wheels", "--index-url file:///srv", "--pre", "--trusted-host x", "-i",
        "not a name", "six==", "six --install-option=x", "six --hash=md5:00", "six @ https://[broken", "$HOME", "\0",
    ],
)  # fmt: skip
def test_a_line_that_means_something_on_another_machine_is_refused_by_its_number(line: str) -> None:
    with pytest.raises(BadRequirements, match=r"^line 3, "):
        lines_of(f"six\n# a comment\n{line}\n")


def test_metadata_inside_a_script_is_found_and_read() -> None:
    found = inline("#!/usr/bin/env python\n" + BLOCK)
    assert found is not None
    assert (found.dependencies, found.requires_python) == (["rich", "Six>=1"], ">=3.11")
    assert inline(BLOCK.replace("\n", "\r\n")) == found
    assert inline("print('# /// script')\n#/// script\n# ///\n") is None
    assert inline("# /// script\n# dependencies = ['never closed']\nprint()\n# ///\n") is None
    assert inline("# /// other\n# x = 1\n# ///\n") is None


def test_a_block_ends_at_the_last_closing_line_of_its_comments() -> None:
    found = inline(
        "# /// script\n# dependencies = ['six']\n#\n# [tool.some]\n# text = '''\n# ///\n# '''\n# ///\nx = 1\n"
    )
    assert found is not None
    assert found.dependencies == ["six"]


@pytest.mark.parametrize(
    "script",
    [
        BLOCK + "\n" + BLOCK,
        "# /// script\n# dependencies = [\n# ///\n",
        "# /// script\n# dependencies = 'six'\n# ///\n",
        "# /// script\n# dependencies = [1]\n# ///\n",
        "# /// script\n# requires-python = 3.11\n# ///\n",
        "# /// script\n# dependencies = ['--index-url https://x.example']\n# ///\n",
    ],
)
def test_metadata_that_can_not_be_meant_is_refused(script: str) -> None:
    with pytest.raises(BadRequirements):
        inline(script)


def test_a_python_fits_when_some_release_of_it_does() -> None:
    assert fits(">=3.11", "3.11")
    assert fits(">=3.11.5,<3.12", "3.11")
    assert fits("~=3.11", "3.13")
    assert not fits(">=3.12", "3.11")
    assert not fits("==3.10.*", "3.11")
    with pytest.raises(BadRequirements):
        fits("new enough", "3.11")


def test_what_a_script_asks_for_itself_is_added_once() -> None:
    assert merged(None, []) is None
    assert merged("  # nothing\n", []) is None
    assert merged("Six\n", ["six"]) == "Six\n"
    assert merged("six==1 # pinned", ["rich>=13", "six==1"]) == "six==1 # pinned\n# from the script itself\nrich>=13\n"
    text = merged(None, ["rich"])
    assert text == "# from the script itself\nrich\n"
    assert merged(text, ["rich"]) == text


def test_a_flood_of_lines_is_refused() -> None:
    with pytest.raises(BadRequirements, match="2000 lines"):
        lines_of("six\n" * 2001)
