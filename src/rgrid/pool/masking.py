"""Keeps secret values out of a stream of text, wherever the pieces that it comes in are cut."""

import re
from collections.abc import Sequence
from typing import Final

MASK: Final = "***"
SECRET_CHARACTERS_MIN: Final = 6


def secret_texts(values: Sequence[str]) -> list[str]:
    """What to look for, longest first: each value, the value without outer blanks (as from a file that ends in a
    newline), and the lines of a value that has several, because those are printed one by one."""
    texts: set[str] = set()
    for value in values:
        texts.update((value, value.strip(), *map(str.strip, value.splitlines())))
    return sorted((text for text in texts if len(text) >= SECRET_CHARACTERS_MIN), key=lambda t: (-len(t), t))


class Masker:
    """`feed` gives back text as far as it is sure that no secret began in it; what might still become one is held.

    Over any cutting of the same text, the pieces and `rest` join to what `mask` makes of the whole.
    """

    def __init__(self, values: Sequence[str]) -> None:
        self._secrets = secret_texts(values)
        self._pattern = re.compile("|".join(map(re.escape, self._secrets))) if self._secrets else None
        self._held = ""

    def mask(self, text: str) -> str:
        """A whole text, masked."""
        return self._pattern.sub(MASK, text) if self._pattern else text

    def feed(self, text: str) -> str:
        if self._pattern is None:
            return text
        text = self._held + text
        done, held_from = 0, self._hold_from(text, 0)
        out: list[str] = []
        for match in self._pattern.finditer(text):
            if match.start() >= held_from:
                break
            out += (text[done : match.start()], MASK)
            done = match.end()
            if done > held_from:
                held_from = self._hold_from(text, done)
        out.append(text[done:held_from])
        self._held = text[held_from:]
        return "".join(out)

    def rest(self) -> str:
        """What was held, at the end of the stream: it did not grow into a longer secret."""
        held, self._held = self._held, ""
        return self.mask(held)

    def _hold_from(self, text: str, start: int) -> int:
        """The first index from which on the text is the beginning, but not the whole, of a secret."""
        first = len(text)
        for secret in self._secrets:
            at = max(start, len(text) - len(secret) + 1)
            while (at := text.find(secret[0], at, first)) >= 0:
                if secret.startswith(text[at:]):
                    first = at
                    break
                at += 1
        return first
