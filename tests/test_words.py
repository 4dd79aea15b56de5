"""Texts use the field's terms: each word to avoid, with its replacement."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLACES = (
    "*.md", "openeo_cloudmask", "viewer", "udf", "docs", "stac_extension", "docker", "benchmarks",
    "webmap/src", "tests",
)  # fmt: skip
SUFFIXES = {".py", ".md", ".json", ".ts", ".sh", ".ipynb", ".yml", ".css", ".html"}
SKIPPED = {"vendor", "data", "node_modules", "THIRD_PARTY_NOTICES.md", "leaderboard.json"}

_COUNTED = (
    r"windows|pixels|bytes?|rows|tiles|bands|megapixels|operations|seconds|polls|cycles|percentages|"
    r"columns|requests|metres|ms|MB|GB|twice|once|"
    r"one (?:byte|file|line|row|column|variable|picture|class|band|module|folder|group|entry)"
)
_PER = (
    "call|second|minute|hour|day|month|year|pixel|band|file|window|scene|side|tile|batch|epoch|"
    "megapixel|metre|value|step|thread|process|row|date|class|cell|item|model|family|worker|job|"
    "user|request|core|collection|page|layer|pair"
)

# (what to avoid, what to write instead)
WORDS = {
    r"unseen": "no-data",
    r"made[- ]up(?! of)": "synthetic",
    r"yardsticks?": "reference",
    r"half[- ]shade": "penumbra",
    r"at hand": "available",
    r"cloud or not": "cloud/non-cloud",
    r"(is|are|was|were|be|been) none(?! too)": "say what is missing or wrong: 'is not a number'",
    r"strangers?('s)?": "untrusted, third-party",
    r"other people('s)?": "third-party, of others",
    r"spoilt": "corrupted, invalid",
    r"for ever": "forever",
    r"puts? (it|them)? ?right": "correct",
    r"(cannot|can not|can't) be told": "cannot be determined",
    r"sign of life": "the lease was (not) renewed; it (does not) answer",
    r"more to give": "say which limit is reached",
    r"the more the more": "a plain comparison",
    r"puts? (one|a|the) names? right": "corrects the name",
    rf"({_COUNTED}) an? ({_PER})": "'per': 'windows per call'",
}
# Capitals of sentences count as small letters; None and the constants of the code stay as they are.
CAPITAL = re.compile(r"\b(?!None\b)[A-Z](?=[a-z])")
PATTERNS = {re.compile(text.replace(" ", r"\s+")): instead for text, instead in WORDS.items()}
# One search for all of them is several times faster than one for each.
ANY = re.compile(rf"\b(?:{'|'.join(pattern.pattern for pattern in PATTERNS)})\b")


def texts() -> Iterator[Path]:
    """Yield the files whose words are looked at."""
    for place in PLACES:
        found = ROOT.glob(place) if "*" in place else (ROOT / place).rglob("*")
        for path in sorted(found):
            if path.suffix in SUFFIXES and not SKIPPED & set(path.relative_to(ROOT).parts):
                yield path


def findings(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, what stands there, what to write instead)."""
    small = CAPITAL.sub(lambda match: match[0].lower(), text)
    for match in ANY.finditer(small):
        instead = next(new for pattern, new in PATTERNS.items() if pattern.fullmatch(match[0]))
        yield small.count("\n", 0, match.start()) + 1, match[0], instead


def test_texts_use_the_terms_of_the_field():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {word!r}; write {instead}"
        for path in texts()
        if path != Path(__file__)
        for number, word, instead in findings(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(["words to avoid (tests/test_words.py):", *found])


@pytest.mark.parametrize(
    "text",
    [
        "NaN where unseen",
        "batch_size: windows a call of the detector",
        "one file a family",
        "weights are made up",
        "the address is none",
    ],
)
def test_the_list_finds(text):
    assert list(findings(text))


@pytest.mark.parametrize(
    "text", ["the file opens a window", "is None", "half a pixel", "a scene made up of tiles"]
)
def test_the_list_allows(text):
    assert not list(findings(text))
