"""Hook of mkdocs: makes pages that are read in the repository into pages of a site."""

import os
import posixpath
import re

# A link in Markdown, with its text.
LINK = re.compile(r"\[([^\]]*)\]\(([^()\s]+)\)")
FENCE = re.compile(r"^ *```.*?^ *```$", re.M | re.S)


def on_page_markdown(markdown, page, config, files):
    """Turns links that leave the folder of the pages into what the site has instead."""
    folder = posixpath.dirname(page.file.src_uri)

    def replace(match):
        text, target = match.groups()
        path, _, _ = target.partition("#")
        if "://" in target or not path:
            return match.group(0)
        path = posixpath.normpath(posixpath.join("docs", folder, path))
        if path.startswith("docs/"):
            return match.group(0)
        chart = re.fullmatch(r"charts/([^/]+)/README\.md", path)
        if chart:
            values = posixpath.relpath("reference/chart-values.md", folder or ".")
            return f"[{text}]({values}#{chart.group(1)})"
        # DOCS_REPOSITORY is where files of the repository can be read, as in https://HOST/REPOSITORY/blob/main.
        repository = os.environ.get("DOCS_REPOSITORY")
        return f"[{text}]({repository}/{path})" if repository else text

    parts, last = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [LINK.sub(replace, markdown[last : fence.start()]), fence.group(0)]
        last = fence.end()
    return "".join(parts + [LINK.sub(replace, markdown[last:])])
