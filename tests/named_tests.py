#!/usr/bin/env python3
"""Whether the tests that docs/gate.md, docs/recorder.md and docs/images.md name are there.

    python3 tests/named_tests.py
"""
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parent.parent
sources = [*root.glob("tests/**/*.rs"), *root.glob("src/**/*.rs")]
functions = set()
for source in sources:
    functions.update(re.findall(r"fn ([a-z0-9_]+)\(", source.read_text()))
wrong = []
for name in ["gate", "recorder", "images"]:
    page = root / "docs" / f"{name}.md"
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if not line.startswith("| ") or line.startswith("|---"):
            continue
        last = line.rstrip("| ").rsplit("|", 1)[-1]
        for test in re.findall(r"`(?:[a-z_]+::)?([a-z0-9]+(?:_[a-z0-9]+){2,})`", last):
            if test not in functions:
                wrong.append(f"docs/{page.name}:{number}: there is no test {test}")
for text in wrong:
    print(text)
print(f"{len(functions)} functions, {len(wrong)} names of tests that are none")
sys.exit(bool(wrong))
