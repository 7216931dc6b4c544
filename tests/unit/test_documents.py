"""The example's pure parts, and that the two ways of computing them agree."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.documents import terms
from examples.documents.app import usual_pause
from examples.documents.expected import expected
from examples.documents.library import Document, Library, LibraryError, open_library


def library(**texts: str) -> Library:
    return Library({id: partial(str, text) for id, text in texts.items()})


def by_the_application(document: Document, library: Library) -> dict[str, Any]:
    return {
        "document": document.id,
        "title": document.title,
        "words": len(terms.words(document.text)),
        "digest": document.digest,
        "terms": [
            {"term": term, "count": count}
            for term, count in terms.key_terms(document.title, document.text)
        ],
        "references": [
            {"document": other, "mentions": count}
            for other, count in terms.cross_references(document.id, document.text, library.titles())
        ],
    }


def test_words_go_from_a_letter_to_a_letter_or_digit() -> None:
    assert terms.words("__exit__ x2 2y a_b_ _ 42 Ärger's") == [
        "exit",
        "x2",
        "y",
        "a_b",
        "ärger",
        "s",
    ]


def test_terms_weigh_by_count_length_and_title() -> None:
    text = "tiny tiny tiny enormousness enormousness the the the the the the"
    assert terms.key_terms("", text) == [("enormousness", 2), ("tiny", 3)]
    assert terms.key_terms("Tiny things", text) == [("tiny", 3), ("enormousness", 2)]
    assert terms.key_terms("", "bbb aaa") == [("aaa", 1), ("bbb", 1)]
    assert terms.key_terms("", "") == []


def test_mentions_are_quoted_names_and_titles_after_section() -> None:
    titles = {"with": "The with statement", "try": "The try", "t": "The", "for": "For"}
    text = 'x "with" "try" "none" see section The\n try, sections The with statement; section Theme'
    assert terms.cross_references("for", text, titles) == [("try", 2), ("with", 1)]
    assert terms.cross_references("try", text, titles) == [("with", 1)]


def test_the_language_reference_comes_out_the_same_in_both_ways() -> None:
    reference = open_library()
    assert len(reference.ids()) > 60
    linked = 0
    for id in reference.ids():
        document = reference.read(id)
        result = expected(document, reference).result
        assert result == by_the_application(document, reference)
        assert result["terms"]
        linked += bool(result["references"])
    assert linked > 20


PIECES = st.lists(
    st.sampled_from(
        [
            '"',
            "a",
            "b_",
            "_",
            "section ",
            "sections",
            " ",
            "\n",
            "A",
            "A B",
            "1",
            "²",
            "İ",
            "aaa",
            ".",
        ]
    )
    | st.text(max_size=3),
    max_size=40,
).map("".join)


@given(st.dictionaries(st.sampled_from(["a", "A", "aaa", "b_", "1"]), PIECES, min_size=1))
def test_any_texts_come_out_the_same_in_both_ways(texts: dict[str, str]) -> None:
    folder = library(**texts)
    for id in folder.ids():
        document = folder.read(id)
        assert expected(document, folder).result == by_the_application(document, folder)


def test_a_wrong_result_is_told_from_the_right_one() -> None:
    """The broken twin: an application that miscounts by one."""
    folder = library(a='"b" alpha', b="beta")
    right = expected(folder.read("a"), folder).result
    wrong = by_the_application(Document("a", "x", '"b" "b" alpha'), folder)
    assert right != wrong
    assert right["references"] == [{"document": "b", "mentions": 1}]


def test_a_folder_is_a_library(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "one.md").write_text("\n# The *One*\n\ntext")
    (tmp_path / "sub" / "two.TXT").write_bytes(b"caf\xe9")
    (tmp_path / "three.py").write_text("no document")
    folder = open_library(tmp_path)
    assert folder.ids() == ["one.md", "sub/two.TXT"]
    assert folder.titles() == {"one.md": "The *One", "sub/two.TXT": "caf\ufffd"}
    with pytest.raises(LibraryError, match=r"no document is called '\.\./x'"):
        folder.read("../x")


def test_a_folder_without_documents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match=r"holds no document \(\*\.md, \*\.rst, \*\.txt\)"):
        open_library(tmp_path)
    with pytest.raises(LibraryError, match="is not a folder"):
        open_library(tmp_path / "missing")


def test_a_document_that_has_gone_is_said(tmp_path: Path) -> None:
    (tmp_path / "one.md").write_text("x")
    folder = open_library(tmp_path)
    (tmp_path / "one.md").unlink()
    with pytest.raises(LibraryError, match="cannot be read"):
        folder.read("one.md")


def test_pauses_vary_between_one_and_three_seconds() -> None:
    pauses = {usual_pause(id) for id in open_library().ids()}
    assert len(pauses) > 50
    assert all(1 <= pause <= 3 for pause in pauses)
