"""The words of a command line: whose they are, and what they mean."""

import argparse

import pytest

from rgrid.cli import arguments, run


def test_everything_after_the_script_belongs_to_the_script() -> None:
    own, passed = arguments.script_split(["--timeout", "5m", "--detach", "job.py", "--json", "--timeout", "9"])
    assert own == ["--timeout", "5m", "--detach"]
    assert passed == ["job.py", "--json", "--timeout", "9"]


def test_a_value_behind_an_equals_sign_takes_no_further_word() -> None:
    assert arguments.script_split(["--memory=2g", "job.py"]) == (["--memory=2g"], ["job.py"])


def test_two_dashes_end_our_own_options() -> None:
    assert arguments.script_split(["--detach", "--", "-odd-name.py", "x"]) == (["--detach"], ["-odd-name.py", "x"])


def test_options_of_run_without_a_value_are_those_that_the_split_knows() -> None:
    parser = argparse.ArgumentParser()
    run.add_run(parser, parser)
    flags = {option for action in parser._actions if action.nargs == 0 for option in action.option_strings}
    assert flags | {"--json"} == arguments.RUN_FLAGS


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1h", 3600), ("2d", 172_800)])
def test_a_duration_has_a_unit_or_means_seconds(text: str, seconds: int) -> None:
    assert arguments.seconds(text) == seconds


@pytest.mark.parametrize(("text", "megabytes"), [("512", 512), ("512m", 512), ("2g", 2048), ("1GB", 1024)])
def test_a_size_has_a_unit_or_means_megabytes(text: str, megabytes: int) -> None:
    assert arguments.megabytes(text) == megabytes


@pytest.mark.parametrize("text", ["", "fast", "5 parsecs", "-1", "1.5h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        arguments.seconds(text)


@pytest.mark.parametrize("text", ["", "name", "=value"])
def test_a_pair_needs_a_name_and_an_equals_sign(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        arguments.pair(text)


def test_the_value_of_a_pair_may_hold_equals_signs() -> None:
    assert arguments.pair("QUERY=a=b") == ("QUERY", "a=b")
