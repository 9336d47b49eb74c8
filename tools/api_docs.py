# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""docs/api.md from the comments of the public headers: a reader of the C and C++ that include/lathe is written in, no more.

A comment belongs to the declaration that it stands right above, or behind which it stands in the same line. What has none is listed by
``undocumented()``, which a test wants to be empty. Left out: private parts, what a class needs by the language (destructor, copies, moves), and
``Impl``/``impl``, through which Lathe's own code goes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADERS = ("lathe.hpp", "status.h", "dtype.h", "services.h", "log.h", "check.h", "custom_op.h", "lathe.h")  # the order of the page; export.h is for the others
TOKEN = re.compile(
    r"(?P<space>[ \t]+)|(?P<line>\n)|(?P<comment>//[^\n]*|/\*.*?\*/)|(?P<pre>\#(?:[^\n\\]|\\.|\\\n)*)|(?P<text>\"(?:[^\"\\]|\\.)*\"|\w+|::|.)", re.S
)


@dataclass
class Entry:
    """A declaration: `kind` is class, struct, enum, enumerator, function, field or alias."""

    kind: str
    name: str
    code: str
    comment: str
    line: int
    members: list[Entry] = field(default_factory=list)


def comment_text(token: str) -> str:
    if token.startswith("//"):
        return re.sub(r"^//[/!]?<?\s?", "", token).strip()
    inner = re.sub(r"^/\*+<?|\*/$", "", token)
    return "\n".join(re.sub(r"^\s*\*? ?", "", part).rstrip() for part in inner.strip().split("\n"))


def joined(lines: list[str]) -> str:
    return "\n".join(lines).strip()


class Reader:
    def __init__(self, text: str):
        self.tokens = []
        line = 1
        for match in TOKEN.finditer(text):
            self.tokens.append((match.lastgroup, match[0], line))
            line += match[0].count("\n")
        self.at = 0

    def comments_behind(self) -> str:
        """What stands after a declaration in its line."""
        at, found = self.at, []
        while at < len(self.tokens) and self.tokens[at][0] in ("space", "comment"):
            if self.tokens[at][0] == "comment":
                found.append(comment_text(self.tokens[at][1]))
                self.at = at + 1
            at += 1
        return joined(found)

    def skip_block(self) -> None:
        """Behind an opening brace: to behind its closing one."""
        depth = 1
        while depth:
            kind, word, _ = self.tokens[self.at]
            self.at += 1
            depth += (word == "{") - (word == "}") if kind == "text" else 0

    def scope(self, owner: str = "", public: bool = True) -> list[Entry]:
        """Declarations up to the closing brace of the scope, or to the end."""
        entries: list[Entry] = []
        above: list[str] = []
        code, started, blank = "", 0, False
        while self.at < len(self.tokens):
            kind, word, line = self.tokens[self.at]
            self.at += 1
            if kind == "line":
                if not code and blank:
                    above = []
                blank = True
                code += " " if code else ""
                continue
            if kind == "space":
                code += " " if code else ""
                continue
            blank = False
            if kind == "comment":
                if not code:
                    above.append(comment_text(word))
                continue
            if kind == "pre":
                above = []
                continue
            if word == "}" and not code.strip():
                return entries
            started = started or line
            if word == ":" and code.strip() in ("public", "private", "protected"):
                public = code.strip() == "public"
                code, above, started = "", [], 0
                continue
            if word not in "{;" or code.count("(") > code.count(")"):  # a default argument may be {}
                code += word
                continue
            head = tidy(code)
            if word == "{" and re.match(r"(inline )?namespace\b|extern \"C\"", head):
                entries += self.scope()
                code, above, started = "", [], 0
                continue
            members: list[Entry] = []
            if word == "{" and re.match(r"(typedef )?(enum|struct|class)\b", head):
                above.append(self.comments_behind())
            if word == "{" and re.match(r"(typedef )?enum\b", head):
                members = self.enumerators()
            elif word == "{" and re.match(r"(typedef )?(struct|class)\b", head) and "(" not in head.replace("((", ""):
                members = self.scope(type_name(head), not head.startswith("class"))
            elif word == "{":
                self.skip_block()
            if word == "{" and (members or re.match(r"(typedef )?(enum|struct|class)\b", head)):
                tail = ""
                while self.tokens[self.at][1] != ";":
                    tail += self.tokens[self.at][1]
                    self.at += 1
                self.at += 1
                head = f"{head} {tail.strip()}".strip()
            elif word == "{" and not is_function(head):
                # An initialiser: what follows belongs to the same declaration.
                code = head
                continue
            comment = joined([*above, self.comments_behind()])
            entry = declared(head, comment, started, members, owner)
            if public and entry:
                entries.append(entry)
            code, above, started = "", [], 0
        return entries

    def enumerators(self) -> list[Entry]:
        entries: list[Entry] = []
        above: list[str] = []
        code, started = "", 0
        while True:
            kind, word, line = self.tokens[self.at]
            self.at += 1
            if kind == "comment":
                above.append(comment_text(word))
            elif kind == "text" and word in ",}":
                if code.strip():
                    name = tidy(code)
                    entries.append(Entry("enumerator", name.split(" ")[0], name, joined([*above, self.comments_behind()]), started))
                code, above, started = "", [], 0
                if word == "}":
                    return entries
            elif kind == "text":
                code += word
                started = started or line
            elif kind in ("space", "line") and code:
                # A comment behind the last enumerator stands before the brace.
                rest = self.tokens[self.at :]
                if kind == "space" and rest and rest[0][0] == "comment":
                    continue
                code += " "


def tidy(code: str) -> str:
    code = re.sub(r"\s+", " ", code).strip()
    code = re.sub(r"\[\[[^\]]*\]\]\s*", "", code)
    code = re.sub(r"\b(LATHE_API|LATHE_C_API)\b\s*", "", code)
    return re.sub(r"\s+([,;)])", r"\1", code).strip()


def type_name(head: str) -> str:
    found = re.match(r"(?:typedef )?(?:enum class|enum|struct|class) (\w+)", head)
    return found[1] if found else ""


def is_function(head: str) -> bool:
    while (bare := re.sub(r"<[^<>]*>", "", head)) != head:  # std::function<void(int)> is none
        head = bare
    return "(" in head and "=" not in re.sub(r"\(.*", "", head).replace("operator==", "").replace("operator=", "")


def declared(head: str, comment: str, line: int, members: list[Entry], owner: str) -> Entry | None:
    if not head or head.startswith(("friend ", "using ", "static_assert", "#")):
        return None
    if members or re.match(r"(typedef )?(enum|struct|class)\b(?!.*\()", head) and not re.match(r"(struct|class) \w+$", head):
        alias = re.search(r"(\w+)$", head)[1] if head.startswith("typedef") else type_name(head)
        kind = re.search(r"enum|struct|class", head)[0]
        return Entry(kind, alias, head, comment, line, members)
    if re.match(r"(struct|class) \w+$", head):
        return None  # announced; defined elsewhere
    if head.startswith("typedef"):
        name = re.search(r"\(\*(\w+)\)", head) or re.search(r"(\w+)$", head)
        return Entry("alias", name[1], head, comment, line)
    if is_function(head) and not re.search(r"\(\*\w+\)\(", head):
        name = re.search(r"(operator ?[^\s(]+|~?\w+)\s*\(", head)[1]
        if owner and (
            name.startswith("~") or re.match(rf"operator=$|{owner}$", name) and re.search(rf"\((const )?{owner} ?&|\(\)|\({owner} ?&&", head) or "Impl" in head
        ):
            return None
        if re.search(r"\w::\w+\(", head):
            return None  # the body of what was declared above
        return Entry("function", name, re.sub(r"\) : .*", ")", head), comment, line)
    pointer = re.search(r"\(\*(\w+)\)", head)
    plain = re.sub(r"\s*(=.*|\{.*)$", "", head)
    if plain.endswith("Impl"):
        return None
    if not pointer and not re.search(r"\w$", plain):
        raise SystemExit(f"api_docs: line {line} is not understood: {head!r}")
    names = pointer[1] if pointer else ", ".join(re.search(r"(\w+)(\[\w+\])?$", re.sub(r"\s*(=.*|\{.*)$", "", part.strip()))[1] for part in split_names(head))
    return Entry("field", names, head, comment, line)


def split_names(head: str) -> list[str]:
    """`double flops = 0, bytes = 0` -> its declarators; commas inside of <> and () are not between them."""
    parts, depth = [""], 0
    for c in head:
        depth += (c in "<({") - (c in ">)}")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return parts


def read(header: str) -> tuple[str, list[Entry]]:
    """The comment on top of a header, and what it declares."""
    text = (ROOT / "include" / "lathe" / header).read_text()
    c_head = re.match(r"/\*(.*?)\*/", text, re.S)
    if c_head:
        lines = comment_text(c_head[0]).split("\n")
    else:
        lines = re.findall(r"^// ?(.*)$", text[: text.index("#include")], re.M)
    return joined([line for line in lines if "SPDX" not in line]), Reader(text).scope()


def undocumented() -> list[str]:
    missing = []
    for header in HEADERS:
        for entry in read(header)[1]:
            for each in [entry, *entry.members]:
                in_one_line = each.kind == "enumerator" and entry.comment and len({m.line for m in entry.members}) == 1
                if not each.comment and not in_one_line:
                    missing.append(f"{header}:{each.line}: {entry.name}{'' if each is entry else '::' + each.name}")
    return missing


# The page ------------------------------------------------------------------------------------------------------------


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def code_comment(text: str) -> str:
    """A comment as Markdown: what is indented in it is code."""
    lines, inside = [], False
    for part in text.split("\n"):
        code = part.startswith("  ")
        if code != inside:
            lines.append("```" if inside else "\n```cpp")
            inside = code
        lines.append(part[2:] if code else part)
    return "\n".join([*lines, "```"] if inside else lines)


def entry_lines(entry: Entry) -> list[str]:
    if entry.kind == "function":
        return [f"* `{entry.code}`  ", f"  {entry.comment}".replace("\n", "\n  ")]
    if entry.kind == "alias" or (entry.kind in ("struct", "class") and not entry.members):
        return [f"* `{entry.code}`  ", f"  {entry.comment}".replace("\n", "\n  ")]
    if entry.kind == "field":
        return [f"* `{entry.code}`: {entry.comment}"]
    lines = ["", f"### `{entry.name or 'constants'}`", ""]
    if entry.comment:
        lines += [entry.comment, ""]
    plain = [m for m in entry.members if m.kind != "function"]
    if plain:
        lines += ["| name | what it is |", "| --- | --- |"]
        lines += [f"| `{cell(m.code)}` | {cell(m.comment)} |" for m in plain] + [""]
    for member in entry.members:
        if member.kind == "function":
            lines += entry_lines(member)
    return [*lines, ""]


def page() -> str:
    lines = [
        "# C and C++",
        "",
        "Made by `make docs` from the comments in `include/lathe`; a test fails when it is stale or a public name has no comment. [Installing](install.md) says how programs find the library.",
        "",
    ]
    for language, file, words in (("cpp", "run.cpp", "A complete program in C++"), ("c", "run.c", "The same in C")):
        lines += [f"{words} (`examples/api/{file}`):", "", f"```{language}", (ROOT / "examples" / "api" / file).read_text().strip(), "```", ""]
    for header in HEADERS:
        about, entries = read(header)
        lines += [f"## `lathe/{header}`", "", code_comment(about), ""]
        # What stands alone first: types are headings.
        types = [e for e in entries if e.members or e.kind == "enum"]
        for entry in types:
            lines += entry_lines(entry)
        alone = [e for e in entries if e not in types]
        if alone and types:
            lines += ["", "### Functions" if all(e.kind == "function" for e in alone) else "### Functions and others", ""]
        for entry in alone:
            lines += entry_lines(entry)
        lines.append("")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


if __name__ == "__main__":
    print("\n".join(undocumented()))
