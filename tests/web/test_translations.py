"""Both languages say everything: what code and templates hold, what the catalogue holds, what the pages show."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po

from broker.web import language
from tests.web.pages_shown import PAGES, Show
from tests.web.world import World

CHECKOUT = Path(__file__).parents[2]
TEMPLATES = CHECKOUT / "templates"
JAPANESE = CHECKOUT / "broker" / "web" / "translations" / "ja" / "LC_MESSAGES"
PLACEHOLDER = re.compile(r"%\((\w+)\)([sd])")
SHOWN_ATTRIBUTES = {
    "alt",
    "aria-label",
    "aria-description",
    "data-copied",
    "data-failed",
    "data-label",
    "placeholder",
    "title",
}
NO_CONTENT = {"br", "img", "input", "link", "meta"}


def parsed(text: str, locale: str) -> Catalog:
    return read_po(io.StringIO(text), locale=locale, abort_invalid=True)


def entries(catalog: Catalog) -> dict[str | tuple[str, ...], str | tuple[str, ...]]:
    return {key(message): forms(message.string) for message in catalog if message.id}


def key(message: Message) -> str | tuple[str, ...]:
    return message.id if isinstance(message.id, str) else tuple(message.id)


def forms(text: object) -> str | tuple[str, ...]:
    # The compiled form of a language with a single plural is a text; the written one a list of one.
    if isinstance(text, str):
        return text
    assert isinstance(text, list | tuple)
    return str(text[0]) if len(text) == 1 else tuple(str(form) for form in text)


@pytest.fixture(scope="module")
def written() -> Catalog:
    return parsed((JAPANESE / "messages.po").read_text(encoding="utf-8"), "ja")


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    template = tmp_path_factory.mktemp("messages") / "messages.pot"
    pybabel = Path(sys.executable).with_name("pybabel")
    options = ["--quiet", "extract", "-F", "broker/web/babel.cfg", "-k", "lazy_gettext", "-k", "lazy_ngettext:1,2"]
    subprocess.run(
        [pybabel, *options, "--no-location", "-o", template, "broker/web", "templates"], cwd=CHECKOUT, check=True
    )
    return parsed(template.read_text(encoding="utf-8"), "en")


def test_the_catalogue_holds_exactly_the_texts_of_code_and_templates(written: Catalog, extracted: Catalog) -> None:
    assert entries(written).keys() == entries(extracted).keys()


def test_every_text_is_translated_and_none_is_a_guess_or_left_over(written: Catalog) -> None:
    assert len(written) > 200
    assert [message.id for message in written if message.id and not all(forms(message.string))] == []
    assert [message.id for message in written if message.id and message.fuzzy] == []
    assert not written.obsolete


def test_the_compiled_catalogue_is_the_written_one(written: Catalog) -> None:
    with (JAPANESE / "messages.mo").open("rb") as file:
        assert entries(read_mo(file)) == entries(written)


def test_a_translation_has_the_placeholders_of_its_original(written: Catalog) -> None:
    for original, translation in entries(written).items():
        texts = (original,) if isinstance(original, str) else original
        wanted = {name for text in texts for name in PLACEHOLDER.findall(text)}
        for text in (translation,) if isinstance(translation, str) else translation:
            assert set(PLACEHOLDER.findall(text)) == wanted, original


def test_a_translation_is_japanese(written: Catalog) -> None:
    for original, translation in entries(written).items():
        assert re.search(r"[\u3041-\u30ff\u4e00-\u9fff]", str(translation)), original


def test_the_words_for_signing_in_and_credentials_are_the_same_everywhere(written: Catalog) -> None:
    for original, translation in entries(written).items():
        english, japanese = str(original).lower(), str(translation)
        assert "ログイン" not in japanese
        assert "ログオン" not in japanese
        assert "資格情報" not in japanese
        if "credentials" in english:
            assert "認証情報" in japanese, original


def test_the_catalogue_names_no_place_in_the_code_and_no_placeholder_of_the_tool() -> None:
    text = (JAPANESE / "messages.po").read_text(encoding="utf-8")
    assert "\n#:" not in text
    assert not re.search(r"FULL NAME|EMAIL@ADDRESS|YEAR-MO-DA|#~|fuzzy", text)


class _Texts(HTMLParser):
    """What a page shows outside elements that are marked as untranslatable, with its attributes for people."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, bool]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        foreign = given.get("translate") == "no" or tag in {"code", "pre", "script", "style", "time"}
        hidden = foreign or bool(self.open and self.open[-1][1])
        if not hidden:
            self.texts.extend(f"\n{value}\n" for name, value in attrs if name in SHOWN_ATTRIBUTES and value)
        if tag not in NO_CONTENT:
            self.open.append((tag, hidden))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Nothing is inside: the pieces of an icon."""

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not (self.open and self.open[-1][1]):
            self.texts.append(data)


def visible_texts(page: str) -> str:
    reader = _Texts()
    reader.feed(page)
    return "".join(reader.texts)


@pytest.mark.parametrize("template", sorted(TEMPLATES.iterdir()), ids=lambda path: path.name)
def test_a_template_holds_no_visible_word_of_its_own(template: Path) -> None:
    source = template.read_text(encoding="utf-8")
    source = re.sub(r"\{% block body_class %\}.*?\{% endblock %\}", "", source)
    source = re.sub(r"\{#.*?#\}|\{\{.*?\}\}|\{%.*?%\}", "", source, flags=re.DOTALL)
    # A macro that makes attributes has them outside any tag.
    texts = re.sub(r'[a-z-]+="[^"]*"', "", visible_texts(source))

    assert not re.search(r"[^\W\d_]", texts), texts


@pytest.fixture
def marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extracted: Catalog) -> None:
    """Translate every text into itself between brackets, so that a text which nobody translates stands out."""
    catalog = Catalog(locale="ja")
    for message in extracted:
        if message.id:
            one = message.id if isinstance(message.id, str) else message.id[-1]
            catalog.add(message.id, f"⟦{one}⟧" if isinstance(message.id, str) else [f"⟦{one}⟧"])
    folder = tmp_path / "ja" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    with (folder / "messages.mo").open("wb") as file:
        write_mo(file, catalog)
    monkeypatch.setattr(language, "_TRANSLATIONS", tmp_path)


@pytest.mark.usefixtures("marked")
@pytest.mark.parametrize("show", PAGES, ids=lambda show: show.__name__)
def test_a_page_shows_no_word_that_was_not_translated(show: Show) -> None:
    world = World()

    page = show(world, world.browser("ja"))

    assert 'lang="ja"' in page.text
    assert "⟦" in page.text
    left = visible_texts(page.text)
    while (fewer := re.sub(r"⟦[^⟦⟧]*⟧", "", left)) != left:
        left = fewer
    # The company's name stands in the title of every page.
    assert not re.search(r"[^\W\d_]", left.replace("Example Corporation", "")), left
