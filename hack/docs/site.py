"""Hook of mkdocs: makes pages that are read in the repository into pages of a site."""

import os
import posixpath
import re

from mkdocs.structure.files import File

# A link in Markdown, with its text. Pictures are links, too, and begin with an exclamation mark.
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^()\s]+)\)")
FENCE = re.compile(r"^ *```.*?^ *```$", re.M | re.S)
TITLE = re.compile(r"^# (.+)$", re.M)
# Code within a row of a table, where a pipe has to be written with a backslash.
PIPES = re.compile(r"`[^`\n]*\\\|[^`\n]*`")

HERE = os.path.dirname(__file__)


def on_config(config):
    """Draws diagrams by the script that make docs has fetched, if any. Without it the theme loads one from elsewhere."""
    config.extra_css.append("assets/site.css")
    if os.environ.get("MERMAID"):
        config.extra_javascript.append("assets/mermaid.min.js")
    return config


def on_files(files, config):
    """Adds what the pages need and readers of the repository don't."""
    files.append(File.generated(config, "assets/site.css", abs_src_path=os.path.join(HERE, "site.css")))
    if script := os.environ.get("MERMAID"):
        files.append(File.generated(config, "assets/mermaid.min.js", abs_src_path=os.path.abspath(script)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turns links into what the site has: other pages by their titles, what is outside of the pages by its address."""
    folder = posixpath.dirname(page.file.src_uri)

    def title(path):
        linked = files.get_file_from_path(path)
        found = linked and TITLE.search(linked.content_string)
        return found and found.group(1)

    def replace(match):
        text, target = match.groups()
        path, _, _ = target.partition("#")
        if "://" in target or not path:
            return match.group(0)
        path = posixpath.normpath(posixpath.join("docs", folder, path))
        if path.startswith("docs/"):
            # In the repository pages are known by the names of their files.
            name = title(path.removeprefix("docs/")) if text.endswith(".md") else None
            return f"[{name or text}]({target})"
        chart = re.fullmatch(r"charts/([^/]+)/README\.md", path)
        if chart:
            values = posixpath.relpath("reference/chart-values.md", folder or ".")
            return f"[{text}]({values}#{chart.group(1)})"
        # DOCS_REPOSITORY is where files of the repository can be read, as in https://HOST/REPOSITORY/blob/main.
        repository = os.environ.get("DOCS_REPOSITORY")
        return f"[{text}]({repository}/{path})" if repository else text

    def convert(text):
        return PIPES.sub(code, LINK.sub(replace, text))

    parts, last = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [convert(markdown[last : fence.start()]), fence.group(0)]
        last = fence.end()
    return "".join(parts + [convert(markdown[last:])])


def code(match):
    """What GitHub makes of the code: there, the backslash before a pipe goes; the Markdown of the site keeps it."""
    text = match.group(0).strip("`").replace("\\|", "|")
    for plain, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;")):
        text = text.replace(plain, entity)
    return f"<code>{text}</code>"
