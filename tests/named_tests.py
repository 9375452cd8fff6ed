#!/usr/bin/env python3
"""Whether the tests that docs/gate.md, docs/recorder.md and docs/images.md name are there, and where they say.

    python3 tests/named_tests.py

A name may have its file before it: `file::test`, or `file.rs: test, test; other.rs: test` in a cell (without .rs: a module in src/).
"""
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parent.parent
# What is a test: `#[test]` before it, whatever comments and attributes lie between, or within `proptest!`, with arguments.
TEST = re.compile(r"#\[test\]\s*(?:(?://[^\n]*|#\[[^\n]*\])\s*)*fn ([a-z0-9_]+)\(|^    +fn ([a-z0-9_]+)\(\s*\w[^)]*? in ", re.M)
NAME = re.compile(r"(?:\b([a-z_]+)(\.rs)?: )?`(?:([a-z_]+)::)?([a-z0-9]+(?:_[a-z0-9]+){2,})`|(;)")

# Where each test is: the names of its file and of the modules that this one belongs to.
places = {}
for source in [*root.glob("tests/**/*.rs"), *root.glob("src/**/*.rs")]:
    parts = source.relative_to(root).with_suffix("").parts
    for groups in TEST.findall(source.read_text()):
        places.setdefault(groups[0] or groups[1], []).append(parts)

wrong, named = [], 0
for page in ["gate", "recorder", "images"]:
    for number, line in enumerate((root / "docs" / f"{page}.md").read_text().splitlines(), 1):
        if not line.startswith("|"):
            continue
        cell = line.rstrip("| ").rsplit("|", 1)[-1]
        file, crate = None, None
        for module, rs, path, test, end in NAME.findall(cell):
            if end:
                file, crate = None, None
                continue
            if module:
                file, crate = module, "tests" if rs else "src"
            here = path or file
            named += 1
            found = places.get(test, [])
            if not found:
                wrong.append(f"docs/{page}.md:{number}: there is no test {test}")
            elif here and not any(here in parts and (path or parts[0] == crate) for parts in found):
                wrong.append(f"docs/{page}.md:{number}: {test} is not in {here} but in {'/'.join(found[0])}")
for text in wrong:
    print(text)
print(f"{len(places)} tests, {named} names, {len(wrong)} of them wrong")
sys.exit(bool(wrong))
