"""Whatever the chunks: the same lines, no byte lost within the limits, no secret in clear."""

import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from rgrid.pool.capture import LINE_BYTES_MAX, Capture, CaptureLimits
from rgrid.pool.masking import MASK, Masker, secret_texts
from rgrid.pool.protocol import LogLine

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
Stream = Literal["stdout", "stderr"]
Print = tuple[Stream, bytes]

ODD_BYTES = st.lists(
    st.one_of(
        st.binary(max_size=8),
        st.text(max_size=8).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.sampled_from([b"\n", b"\n\n", b"\0", b"\r\n", b"\xf0\x9f", b"\x98\x80", "é".encode() * 5]),
    ),
    max_size=30,
).map(b"".join)
STREAMS = st.sampled_from(["stdout", "stderr"])


def capture(masked: list[str] | None = None, limits: CaptureLimits | None = None, first: int = 0) -> Capture:
    return Capture(next_sequence=first, masked=masked or [], limits=limits, now=lambda: NOON)


def lines_of(
    prints: list[Print], masked: list[str] | None = None, limits: CaptureLimits | None = None
) -> list[LogLine]:
    taken = capture(masked, limits)
    return [line for stream, data in prints for line in taken.feed(stream, data)] + taken.close()


def cut_up(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


def chunked(prints: list[Print], cuts: list[int]) -> list[Print]:
    return [(stream, piece) for stream, data in prints for piece in cut_up(data, cuts)]


def shown(lines: list[LogLine], stream: str) -> list[str]:
    return [line.message for line in lines if line.stream == stream]


@given(st.lists(st.tuples(STREAMS, ODD_BYTES), max_size=6), st.lists(st.integers(0, 500), max_size=20))
def test_any_chunking_gives_the_same_lines(prints: list[Print], cuts: list[int]) -> None:
    assert lines_of(chunked(prints, cuts)) == lines_of(prints)


@given(st.lists(st.tuples(STREAMS, ODD_BYTES), max_size=6))
def test_the_lines_of_a_stream_are_its_bytes(prints: list[Print]) -> None:
    lines = lines_of(prints)
    for stream in ("stdout", "stderr"):
        data = b"".join(data for name, data in prints if name == stream)
        text = data.decode("utf-8", "replace").replace("\0", "\ufffd")
        expected = text.split("\n")
        assert shown(lines, stream) == (expected if expected[-1] else expected[:-1])
    assert [line.sequence_number for line in lines] == list(range(len(lines)))


@given(
    st.lists(st.tuples(STREAMS, ODD_BYTES), max_size=8),
    st.lists(st.integers(0, 500), max_size=20),
    st.integers(0, 60),
    st.integers(0, 8),
    st.integers(1, 40),
)
def test_a_cut_output_is_the_same_in_any_chunking(
    prints: list[Print], cuts: list[int], bytes_max: int, lines_max: int, tail: int
) -> None:
    limits = CaptureLimits(bytes_max=bytes_max, lines_max=lines_max, tail_bytes=tail)
    whole, pieces = lines_of(prints, limits=limits), lines_of(chunked(prints, cuts), limits=limits)
    assert pieces == whole
    assert len([line for line in whole if line.message.startswith("[rgrid] output was cut")]) <= 1


SECRETS = st.lists(
    st.one_of(st.text("ab", min_size=6, max_size=9), st.text("ab\n", min_size=6, max_size=12)), min_size=1, max_size=3
)


@settings(max_examples=300)
@given(SECRETS, st.data(), st.lists(st.integers(0, 200), max_size=30))
def test_a_secret_never_leaks_however_it_is_cut(secrets: list[str], data: st.DataObject, cuts: list[int]) -> None:
    parts = st.lists(st.one_of(st.sampled_from(secrets), st.text("ab\nx", max_size=6)), max_size=12)
    text = data.draw(parts.map("".join))
    masker = Masker(secrets)
    pieces = [masker.feed(piece.decode()) for piece in cut_up(text.encode(), cuts)]
    masked = "".join(pieces) + masker.rest()
    assert masked == masker.mask(text)
    assert not [secret for secret in secret_texts(secrets) if secret in masked]
    lines = lines_of(chunked([("stdout", text.encode())], cuts), masked=secrets)
    assert "\n".join(shown(lines, "stdout")) == masked.removesuffix("\n")


def test_a_secret_that_straddles_reads_and_a_silence_is_masked() -> None:
    taken = capture(masked=["hunter2secret"])
    lines = taken.feed("stdout", b"key=hunter2")
    lines += taken.flush_silent(time.monotonic())
    assert shown(lines, "stdout") == ["key="]
    lines = taken.feed("stdout", b"secret!\n") + taken.close()
    assert shown(lines, "stdout") == [f"{MASK}!"]


def test_short_values_are_not_masked_and_parts_of_a_secret_are_shown() -> None:
    assert shown(lines_of([("stdout", b"abc hunter2\n")], masked=["abc", "hunter2secret"]), "stdout") == ["abc hunter2"]


def test_the_longer_of_two_secrets_with_one_beginning_is_masked_whole() -> None:
    prints: list[Print] = [("stdout", b"passwo"), ("stdout", b"rdlong"), ("stdout", b" password\n")]
    assert shown(lines_of(prints, masked=["password", "passwordlong"]), "stdout") == ["*** ***"]


def test_a_secret_of_several_lines_is_masked_across_lines_and_line_by_line() -> None:
    secret = "first-line\nsecond-line\n"
    prints: list[Print] = [("stdout", b"a first-line\nsecond-line\nb\n"), ("stdout", b"second-line\n")]
    assert shown(lines_of(prints, masked=[secret]), "stdout") == ["a ***b", "***"]


def test_stdout_and_stderr_share_one_sequence_in_order_of_arrival() -> None:
    taken = capture(first=7)
    lines = taken.feed("stdout", b"one\ntw") + taken.feed("stderr", b"oops\n") + taken.feed("stdout", b"o\n")
    assert [(line.sequence_number, line.stream, line.message) for line in lines] == [
        (7, "stdout", "one"),
        (8, "stderr", "oops"),
        (9, "stdout", "two"),
    ]
    assert (taken.size_bytes("stdout"), taken.size_bytes("stderr")) == (8, 5)


def test_an_unfinished_line_is_shown_after_a_silence_and_its_newline_adds_no_empty_line() -> None:
    taken = capture()
    assert taken.feed("stdout", b"50 %...") == []
    fed_at = taken.waiting_since()
    assert fed_at is not None
    assert taken.flush_silent(fed_at - 0.001) == []
    assert shown(taken.flush_silent(fed_at), "stdout") == ["50 %..."]
    assert taken.waiting_since() is None
    assert shown(taken.feed("stdout", b"\ndone\n"), "stdout") == ["done"]


def test_a_long_line_is_split_between_characters() -> None:
    text = "x" + "é" * LINE_BYTES_MAX
    messages = shown(lines_of([("stdout", piece) for piece in cut_up(text.encode(), [10, 65_535, 65_537])]), "stdout")
    assert "".join(messages) == text
    assert [len(message.encode()) for message in messages] == [LINE_BYTES_MAX - 1, LINE_BYTES_MAX, 2]


def test_a_long_line_of_invalid_bytes_stays_within_the_bound() -> None:
    messages = shown(lines_of([("stdout", b"\xff" * LINE_BYTES_MAX + b"\n")]), "stdout")
    assert max(len(message.encode()) for message in messages) <= LINE_BYTES_MAX
    assert sum(map(len, messages)) == LINE_BYTES_MAX


def test_output_over_the_limit_keeps_head_and_tail_and_says_so_once() -> None:
    prints: list[Print] = [
        ("stdout", b"".join(b"line %07d\n" % n for n in range(k, k + 1000))) for k in range(0, 300_000, 1000)
    ]
    taken = capture()
    lines = [line for stream, data in prints for line in taken.feed(stream, data)]
    assert len(lines) == 200_001
    assert (lines[-1].stream, lines[-1].message[:26]) == ("stderr", "[rgrid] output was cut her")
    end = taken.close()
    assert taken.truncated
    assert end[-1].message == "line 0299999"
    assert sum(len(line.message) + 1 for line in end) == 64 * 1024
    assert [line.sequence_number for line in lines + end] == list(range(len(lines) + len(end)))
    assert taken.size_bytes("stdout") == 300_000 * 13


def test_endless_output_without_a_newline_keeps_exactly_the_last_64_kib() -> None:
    taken = capture(limits=CaptureLimits(bytes_max=200_000))
    data = bytes(range(65, 91)) * 2000
    for _ in range(20):
        taken.feed("stdout", data)
    assert "".join(shown(taken.close(), "stdout")) == (data * 2)[-64 * 1024 :].decode()


def test_what_was_unfinished_at_the_cut_is_kept_in_order() -> None:
    limits = CaptureLimits(lines_max=1)
    prints: list[Print] = [
        ("stderr", b"half "),
        ("stdout", b"one\ntwo\nth"),
        ("stderr", b"whole\n"),
        ("stdout", b"ree"),
    ]
    lines = lines_of(prints, limits=limits)
    assert [line.message for line in lines if "cut here" not in line.message] == ["one", "two", "half whole", "three"]


def test_the_last_lines_of_stderr_are_kept_for_the_hint() -> None:
    taken = capture()
    taken.feed("stderr", b"".join(b"%d\n" % n for n in range(80)) + b"end")
    taken.close()
    assert list(taken.stderr_end) == [str(n) for n in range(31, 80)] + ["end"]
