"""Write the generated pages of the reference: ``python -m docs_tools.reference``."""

from __future__ import annotations

from pathlib import Path

from docs_tools.reference import command_line, models, recipes, settings

DOCS = Path(__file__).resolve().parents[2] / "docs"


def all_pages() -> dict[str, str]:
    """Return all generated pages: path below docs/ → text."""
    return command_line.pages() | models.pages() | recipes.pages() | settings.pages()


def main() -> None:
    """Write the pages, and name those that changed."""
    for name, text in all_pages().items():
        path = DOCS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
