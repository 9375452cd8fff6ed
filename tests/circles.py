#!/usr/bin/env python3
"""Finds circles of imports between the files of src/: what two files need of each other belongs into a third.

    python3 tests/circles.py [--edges]

A module may name its own parts and these may name it (src/x/mod.rs and src/x/**): that is what a module is. Every other circle is an
error. Unit tests (`#[cfg(test)] mod …`) may reach where they like.
"""

import re
import sys
from pathlib import Path

SRC = Path(__file__).resolve().parent.parent / "src"


def module_of(path):
    parts = list(path.relative_to(SRC).with_suffix("").parts)
    if parts[-1] in ("mod", "lib"):
        parts.pop()
    return tuple(parts)


def without_tests(text):
    """The text up to the unit tests, without comments and strings."""
    text = re.split(r"#\[cfg\(test\)\]\s*(?:pub(?:\([a-z]+\))? )?mod ", text)[0]
    text = re.sub(r'r#".*?"#|"(?:\\.|[^"\\])*"', '""', text, flags=re.S)
    return re.sub(r"//.*", "", text)


def paths_in(text):
    """Every path that begins with crate, super or self, with the braces of `use` written out."""

    def expand(prefix, body):
        depth, start = 0, 0
        for index, letter in enumerate(body + ","):
            if letter == "{":
                depth += 1
            elif letter == "}":
                depth -= 1
            elif letter == "," and depth == 0:
                item, start = body[start:index].strip(), index + 1
                if not item:
                    continue
                head, brace, rest = item.partition("{")
                if brace:
                    yield from expand(prefix + head, rest[: rest.rindex("}")])
                else:
                    yield (prefix + item).split(" as ")[0].strip()

    for use in re.findall(r"\buse\s+([^;]+);", text):
        yield from expand("", " ".join(use.split()))
    yield from re.findall(r"\b(?:crate|super|self)(?:::\w+)+", text)


def resolve(path, module):
    """The names of a path from the crate's root; None for what is not ours."""
    names = [name for name in path.split("::") if name]
    if not names or names[0] not in ("crate", "super", "self"):
        return None
    base = [] if names[0] == "crate" else list(module)
    for position, name in enumerate(names):
        if name == "super":
            base = base[:-1]
        elif name not in ("crate", "self"):
            return tuple(base + names[position:])
    return tuple(base)


def main():
    files = {module_of(path): path for path in sorted(SRC.rglob("*.rs")) if "bin" not in path.parts}
    edges = {module: set() for module in files}
    for module, path in files.items():
        text = without_tests(path.read_text())
        parts = {module + (name,) for name in re.findall(r"^\s*(?:pub(?:\([a-z]+\))? )?mod (\w+);", text, re.M)}
        for used in paths_in(text):
            names = resolve(used, module)
            if names is None:
                # `use part::Item` of a module's own part.
                names = module + tuple(used.split("::"))
                if names[: len(module) + 1] not in parts:
                    continue
            while names and names not in files:
                names = names[:-1]
            if names in files and names != module:
                edges[module].add(names)

    def own(a, b):
        """Whether one is the module and the other one of its parts."""
        shorter, longer = sorted((a, b), key=len)
        return longer[: len(shorter)] == shorter

    graph = {module: {other for other in used if not own(module, other)} for module, used in edges.items()}
    name = lambda module: str(files[module].relative_to(SRC.parent))
    if "--edges" in sys.argv:
        for module in files:
            for other in sorted(graph[module]):
                print(name(module), "->", name(other))

    # Tarjan's strongly connected components.
    index, low, stack, circles = {}, {}, [], []

    def visit(module):
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in graph[module]:
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            circle = []
            while not circle or circle[-1] != module:
                circle.append(stack.pop())
            if len(circle) > 1:
                circles.append(circle)

    for module in files:
        if module not in index:
            visit(module)
    for circle in circles:
        print("a circle of imports:", file=sys.stderr)
        for module in sorted(circle):
            for other in sorted(graph[module] & set(circle)):
                print(f"    {name(module)} -> {name(other)}", file=sys.stderr)
    if circles:
        sys.exit(1)
    print(f"{len(files)} files, {sum(map(len, graph.values()))} imports between them, no circle")


main()
