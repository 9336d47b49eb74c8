# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Generated pages are fresh, links lead somewhere, the version is the same everywhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_generated_pages_are_fresh():
    build = Path(os.environ.get("LATHE_BUILD_DIR", ROOT / "build" / "release"))
    if not (build / "bin" / "lathe").exists():
        pytest.fail("the command lathe is not built")
    done = subprocess.run([sys.executable, ROOT / "tools" / "make_docs.py", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_public_name_has_a_comment():
    """In the headers, and in the package. What the generators would print without one is listed."""
    sys.path.insert(0, str(ROOT / "tools"))
    import api_docs
    import python_docs

    assert api_docs.undocumented() == []
    assert python_docs.undocumented() == []


def test_the_reader_of_headers_sees_all_names():
    """Against what the library exports: no function of the C API is missed, and the C++ page has every class."""
    sys.path.insert(0, str(ROOT / "tools"))
    import api_docs

    names = {entry.name for entry in api_docs.read("lathe.h")[1]}
    text = (ROOT / "include" / "lathe" / "lathe.h").read_text()
    assert set(re.findall(r"^LATHE_C_API[^(]*?(\w+)\(", text, re.M)) == {name for name in names if name and re.search(rf"\b{name}\(", text)}
    for header in api_docs.HEADERS:
        code = re.sub(r"//.*|/\*.*?\*/", "", (ROOT / "include" / "lathe" / header).read_text(), flags=re.S if header == "lathe.h" else 0)
        types = set(re.findall(r"^(?:enum class|struct|class)(?: LATHE_API| \[\[\w+\]\] LATHE_API)? (\w+)[^;]*?\{", code, re.M))
        assert types <= {entry.name for entry in api_docs.read(header)[1]}, header


@pytest.mark.parametrize("page", ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.S)  # a lambda looks like a link
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose):
        if "://" in target:
            continue
        assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"
    # Paths named in backticks exist too.
    for target in re.findall(r"`((?:src|tests|docs|bench|examples|python|tools|include|cmake)/[\w./-]+\.\w+)`", text):
        assert (ROOT / target).exists(), f"{page} names {target}"


def test_every_source_folder_has_a_readme():
    source = ROOT / "src"
    folders = [folder for parent in (source, source / "regions", source / "backend") for folder in parent.iterdir() if folder.is_dir()]
    for folder in sorted(folders):
        page = folder / "README.md"
        assert page.exists(), f"{folder.relative_to(ROOT)} has no README.md"
        # Files that a page names are there: `name.cpp`, `name.h/.cpp`; a pattern names at least one.
        for name in re.findall(r"`([\w*]+\.(?:cpp|h|inc|fbs|map))[`/]", page.read_text()):
            assert next(source.rglob(name), None), f"{page.relative_to(ROOT)} names {name}"


def test_what_add_an_op_quotes_is_the_source():
    """Code in the page is in the files that it names, and the diffs that it shows were made."""
    text = (ROOT / "docs" / "add_an_op.md").read_text()
    files = [*(ROOT / "src" / "ops" / "topk").iterdir(), ROOT / "src" / "ops" / "contrib_activation" / "contrib_activation.cpp"]
    sources = "\n".join(file.read_text() for file in files)
    quoted = re.findall(r"```cpp\n(.*?)```", text, re.S)
    assert len(quoted) >= 3
    for block in quoted:
        assert block.strip() in sources, block
    added = [line[1:] for line in text.splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert added and "\n".join(added) in (ROOT / "src" / "ops" / "pointwise" / "table.inc").read_text()
    listed = re.findall(r"^ (src/\S+) +\| +\d+ \++$", text, re.M)
    assert sorted(listed) == sorted(str(file.relative_to(ROOT)) for file in (ROOT / "src" / "ops" / "topk").iterdir()), "one folder holds all of TopK"


def test_one_version():
    version = re.search(r'kVersion = "([^"]+)"', (ROOT / "src/base/version.h").read_text())[1]
    assert re.search(r"project\(lathe VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text())[1] == version
    # Wheels and source distributions read CMake's; pyproject.toml, which pip reads first, repeats none.
    assert not re.search(r"^version\b", (ROOT / "pyproject.toml").read_text(), re.M)
