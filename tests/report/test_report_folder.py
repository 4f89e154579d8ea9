"""The written files: self-contained, escaped, the same content twice."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from bayes_glmm.comparison import Comparison
from bayes_glmm.report import About, write_index, write_report
from bayes_glmm.report.document import Code, Document, Heading, Key, Paragraph, Section, Table
from bayes_glmm.report.folder import write_document
from bayes_glmm.report.html import write_html
from bayes_glmm.report.markdown import inline, write_markdown

LARGEST_PAGE = 2_000_000  # bytes


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def named(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, about, comparison):
    out = tmp_path_factory.mktemp("reports") / "herds"
    write_report(about, comparison, out, "bayes-glmm compare herds.toml")
    return out


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "index.html").read_text(encoding="utf-8"))


def test_the_page_needs_nothing_from_elsewhere(folder, page):
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action"):
            target = attributes.get(name) or ""
            assert target.startswith(("data:image/", "#", "")), target
            assert "//" not in target.split(";base64,")[0]
    assert not page.named("script")
    assert not page.named("link")
    style = re.search("<style>(.*?)</style>", (folder / "index.html").read_text(), re.DOTALL)
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert (folder / "index.html").stat().st_size < LARGEST_PAGE


def test_links_lead_to_sections_that_exist(page):
    ids = {a["id"] for _, a in page.tags if "id" in a}
    assert {a["href"][1:] for a in page.named("a")} <= ids


def test_labels_of_the_data_stay_text(page, folder):
    (caterpillar,) = [i for i in page.named("img") if "Caterpillar" in i["alt"]]
    assert "lowest <script>alert(1)</script>|*x*" in caterpillar["alt"]
    for name in ("index.html", "report.md"):
        assert "<script" not in (folder / name).read_text(encoding="utf-8")


def test_every_figure_has_a_description(page):
    images = page.named("img")
    assert len(images) == 9
    assert all(len(image["alt"]) > 20 for image in images)


def test_all_labels_are_on_the_page_and_in_the_markdown(page, folder, comparison):
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    for label in [*comparison.fits, *comparison.failures, "period[T.2]", "herd"]:
        assert label in page.text
        assert re.sub(r"([\[\]])", r"\\\1", label) in markdown or label in markdown


def test_markdown_shows_the_same_sections_and_figures(page, folder, document):
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    for section in document.sections:
        assert f"\n## {section.title}\n" in markdown
        assert section.title in page.text
    linked = re.findall(r"\(figures/([\w-]+\.png)\)", markdown)
    assert sorted(linked) == sorted(f.name for f in (folder / "figures").iterdir())
    assert "```math\n" in markdown


def test_the_csv_is_the_table(folder, comparison):
    written = pd.read_csv(folder / "comparison.csv", keep_default_na=False, na_values=[""])
    expected = comparison.to_frame()
    assert list(written["label"]) == list(expected["label"])
    pd.testing.assert_series_equal(written["estimate"], expected["estimate"], rtol=1e-12)


def test_a_report_built_again_has_the_same_bytes_and_no_leftovers(
    tmp_path, folder, document, comparison
):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "stale.png").write_bytes(b"old")
    write_document(document, comparison, tmp_path)
    first, again = (
        {str(p.relative_to(d)): p.read_bytes() for d in [root] for p in d.rglob("*") if p.is_file()}
        for root in (folder, tmp_path)
    )
    assert first == again
    assert {"index.html", "report.md", "comparison.csv"} <= set(again)
    assert not [name for name in again if name.startswith(".") or "tmp" in name]


def test_all_methods_failed_needs_a_model_file(tmp_path):
    lost = Comparison({}, {"ML": "it broke"})
    with pytest.raises(ValueError, match="give a model file"):
        write_report(About("Lost"), lost, tmp_path)


def test_the_index_lists_reports_with_their_questions(tmp_path, document, comparison):
    write_document(document, comparison, tmp_path / "herds")
    page = Page(write_index(tmp_path).read_text(encoding="utf-8"))
    assert "Herds & <i>periods</i>" in page.text
    assert "Does incidence *fall*?" in page.text
    assert {"href": "herds/index.html"} in page.named("a")
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert (
        r"[Herds &amp; &lt;i&gt;periods&lt;/i&gt;](herds/report.md): Does incidence \*fall\*?"
        in readme
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b *c* <d>", r"a\|b \*c\* &lt;d&gt;"),
        (Code("(1 | g)"), r"`(1 \| g)`"),
        (Code("a`b"), "``a`b``"),
        (Key("PQL", "#000000", "▲"), "▲ PQL"),
    ],
)
def test_markdown_marks_are_escaped_in_tables(text, expected):
    assert inline(text, in_table=True) == expected


def test_both_writers_take_every_row_of_a_table():
    rows = [Heading("first <b>"), (Key("ML", "#000000", "■"), "−1.0")]
    table = Table(("method", "estimate"), rows, "A caption.", frozenset({1}))
    document = Document("T", "", "", [Section("s", "S", [table, Paragraph("Careful.", "warning")])])
    assert "| **first &lt;b&gt;** |  |" in write_markdown(document)
    page = Page(write_html(document))
    assert "first <b>" in page.text
    assert page.named("th")[-1]["colspan"] == "2"
    assert {"class": "warning"} in page.named("p")
