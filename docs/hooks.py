"""What MkDocs does beside reading docs/: the repository's pages and files, kept only once, join the site.

The README is its first page; what pages link to outside of docs/ is copied as it is.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CHANGELOG.md": "CHANGELOG.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}
_OUTSIDE = re.compile(r"\]\(((?:\.\./)+)([^)#]+)")
_LIST_AFTER_TEXT = re.compile(r"^((?![-*|#> ]|\d+\. )\S.*)\n(?=- )", flags=re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages at the repository's root, and what pages link to outside of docs/."""
    for name, page in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    for file in list(files.documentation_pages()):
        if file.abs_src_path is None:
            continue
        for up, target in _OUTSIDE.findall(Path(file.abs_src_path).read_text(encoding="utf-8")):
            leaves = up.count("/") > file.src_uri.count("/")
            if leaves and target not in PAGES and files.get_file_from_path(target) is None:
                files.append(File.generated(config, target, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links that leave docs/ to the copies, part lists from text as Markdown asks, keep a ± b on one line."""
    depth = page.file.src_uri.count("/") + 1

    def inside(link: re.Match[str]) -> str:
        up, target = link.groups()
        return f"]({up[3:]}{PAGES.get(target, target)}" if up.count("/") == depth else link[0]

    lines = _OUTSIDE.sub(inside, markdown)
    parts = re.split(r"(^```.*?^```$)", lines, flags=re.MULTILINE | re.DOTALL)
    parts[::2] = [
        _LIST_AFTER_TEXT.sub(r"\1\n\n", part).replace(" ± ", "\u00a0±\u00a0") for part in parts[::2]
    ]
    return "".join(parts)
