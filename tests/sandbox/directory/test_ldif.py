import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.sandbox.directory import ldif

RECORDS = st.lists(
    st.tuples(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
        st.lists(
            st.tuples(
                st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,12}", fullmatch=True).filter(ldif.is_attribute),
                st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="replace")),
            ),
            min_size=1,
            max_size=5,
        ),
    ),
    max_size=4,
)


@given(RECORDS)
def test_what_is_written_reads_as_the_same(records: list[tuple[str, list[tuple[str, bytes]]]]) -> None:
    text = ldif.write(records)
    assert [(record.name, list(record.values)) for record in ldif.read(text)] == records
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 76


@given(st.text())
def test_any_text_is_read_or_refused_with_a_line(text: str) -> None:
    try:
        outcome = [bool(record.values) for record in ldif.read(text)]
    except ldif.LdifError as error:
        outcome = [str(error).startswith("line ")]
    assert all(outcome)


def test_comments_folded_lines_base64_and_windows_line_ends_are_understood() -> None:
    text = (
        "\ufeffversion: 1\r\n# a comment\r\n that goes on\r\n\r\n\r\n"
        "dn: CN=a,\r\n DC=b\r\ncn:: " + base64.b64encode("山田".encode()).decode() + "\r\n"
        "# between\r\ndescription: two  \r\n  words\r\nsn: 花子\r\n"
    )
    (record,) = ldif.read(text)
    assert record.name == "CN=a,DC=b"
    assert record.values == (
        ("cn", "山田".encode()),
        ("description", b"two   words"),
        ("sn", "花子".encode()),
    )
    assert record.line == 6


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("version: 2\n\ndn: CN=a\ncn: a", "line 1: only LDIF version 1"),
        ("cn: a\n", "line 1: a record starts with dn:"),
        ("dn: CN=a\n", "line 1: the record has no attributes"),
        ("dn: CN=a\nchangetype: delete\n", "line 2: changetype: has no place"),
        ("dn: CN=a\ncn: a\ndn: CN=b\ncn: b\n", "line 3: dn: has no place"),
        ("dn: CN=a\njpegPhoto:< file:///etc/hostname\n", "line 2: values by URL"),
        ("dn: CN=a\nuserPassword:: sec*ret\n", "line 2: the base64 of userPassword is broken"),
        ("dn: CN=a\nno colon\n", "line 2: expected `attribute: value`"),
        ("dn: CN=a\ncn;lang-ja: a\n", "line 2: expected `attribute: value`"),
        (" folded\n", "line 1: a continued line follows nothing"),
        ("dn:: /w==\ncn: a\n", "line 1: the dn is not UTF-8"),
    ],
)
def test_faults_are_named_with_their_line_and_without_values(text: str, fault: str) -> None:
    with pytest.raises(ldif.LdifError, match=fault) as refused:
        ldif.read(text)
    assert "sec" not in str(refused.value).replace("second", "")
