"""Writes the sync half of what exists for async and sync users: `_async/*.py` becomes `_sync/*.py`.

    python -m tools.make_sync            writes the files that are out of date
    python -m tools.make_sync --check    names them and exits with 1

It works on tokens: `await` and `async` go, `AsyncX` becomes `X`, `Awaitable[X]` becomes `X`. What truly
differs between the two kinds (locks, futures, tasks and threads) is not translated: it stands side by side in
`perfloop.cache.waiting`, under names that differ by `Async` alone.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = tuple(ROOT / "src/perfloop" / name for name in ("cache", "adapters/reads", "adapters/remote"))

NAMES = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "aclose": "close",
    "_async": "_sync",
    "AbstractAsyncContextManager": "AbstractContextManager",
    "StopAsyncIteration": "StopIteration",
    "asynccontextmanager": "contextmanager",
}
WRAPPERS = ("Awaitable",)  # Awaitable[X] is X
DROPPED = ("await", "async")
WORDS = {  # of docstrings and comments
    "for asyncio": "for threads",
    "One event loop uses it.": "Threads may share it.",
}
TEXTS = (tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))


def to_sync(source: str) -> str:
    """The sync source, not formatted yet."""
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    dropped = set(_wrapped(tokens))
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    parts: list[str] = []
    at = 0
    for index, token in enumerate(tokens):
        begin, end = starts[token.start[0] - 1] + token.start[1], starts[token.end[0] - 1] + token.end[1]
        if token.type == tokenize.ENDMARKER:
            break
        if index in dropped:
            parts.append(source[at:begin])
        elif token.string in DROPPED:
            parts.append(source[at:begin])
            end = starts[tokens[index + 1].start[0] - 1] + tokens[index + 1].start[1]
        else:
            parts += [source[at:begin], _sync_token(token)]
        at = end
    return "".join(parts)


def _wrapped(tokens: list[tokenize.TokenInfo]) -> Iterator[int]:
    """The tokens of wrappers and of their brackets, and those of `.asyncio` in `redis.asyncio`."""
    brackets: list[bool] = []
    for index, token in enumerate(tokens):
        before = tokens[index - 1].string
        if token.string in ("(", "[", "{"):
            brackets.append(token.string == "[" and before in WRAPPERS)
            if brackets[-1]:
                yield from (index - 1, index)
        elif token.string in (")", "]", "}") and brackets.pop():
            yield index
        elif token.string == "asyncio" and before == ".":
            yield from (index - 1, index)


def _sync_token(token: tokenize.TokenInfo) -> str:
    if token.type in TEXTS:
        return _sync_text(token.string)
    return _sync_name(token.string) if token.type == tokenize.NAME else token.string


def _sync_name(name: str) -> str:
    if name in NAMES:
        return NAMES[name]
    return re.sub(r"^(_?)Async(?=[A-Z])", r"\1", name)


def _sync_text(text: str) -> str:
    text = re.sub(r"\bawait |\basync (?=def|with|for)", "", text)
    text = re.sub(r"\bAsync(?=[A-Z])", "", text)
    for word, plain in WORDS.items():
        text = text.replace(word, plain)
    return re.sub(r"\b_async\b", "_sync", text)


def _formatted(text: str, path: Path) -> str:
    for arguments in (["check", "--fix", "--quiet", "--select", "I,F401,UP"], ["format", "--quiet"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(path), "-"],
            input=text,
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        if not done.stdout:
            raise SystemExit(f"{path.name} cannot be formatted: {done.stderr}")
        text = done.stdout
    return text


def generated(source: Path) -> tuple[Path, str]:
    """Where the sync twin of a file stands, and what must be in it."""
    target = source.parent.parent / "_sync" / source.name
    origin = source.relative_to(ROOT / "src").as_posix()
    first = f"# Generated from {origin} by tools/make_sync.py; edit that one.\n"
    return target, _formatted(first + to_sync(source.read_text()), target)


def main(arguments: list[str]) -> int:
    """Write the files that are out of date, or name them."""
    outdated = []
    for family in FAMILIES:
        for source in sorted(family.glob("_async/*.py")):
            target, text = generated(source)
            if not target.exists() or target.read_text() != text:
                outdated.append(target)
                if "--check" not in arguments:
                    target.parent.mkdir(exist_ok=True)
                    target.write_text(text)
    for target in outdated:
        print(f"{target.relative_to(ROOT)} {'is out of date' if '--check' in arguments else 'written'}")
    if outdated and "--check" in arguments:
        print("run `make format`, which writes them anew")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
