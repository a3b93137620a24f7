"""One signer serves all threads, and all fill in copies of the same prepared forms."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from lxml import etree

from broker.adapters.saml.assertion import SamlAssertionSigner
from broker.adapters.signing_keys import FileSigningKey
from tests.adapters.saml.claims import claims, signed
from tests.adapters.saml.verifiers import NS, check_with_signxml

_THREADS = 8
_EACH = 25


def test_threads_that_sign_at_the_same_time_do_not_write_into_each_others_assertions(key: FileSigningKey) -> None:
    together = threading.Barrier(_THREADS)

    def sign_some(thread: int) -> list[tuple[str, bytes]]:
        together.wait()
        wanted = [(f"_{thread}-{number}", f"person-{thread}-{number}") for number in range(_EACH)]
        return [(subject, signed(key, claims(id=id_, subject=subject))) for id_, subject in wanted]

    with ThreadPoolExecutor(_THREADS) as pool:
        made = [one for found in pool.map(sign_some, range(_THREADS)) for one in found]
    assert len(made) == _THREADS * _EACH
    for subject, response in made:
        covered = etree.fromstring(check_with_signxml(response, key.certificate_der, "saml:Assertion"))
        assert covered.findtext("saml:Subject/saml:NameID", namespaces=NS) == subject


def test_what_one_response_held_is_not_in_the_next(key: FileSigningKey) -> None:
    signer = SamlAssertionSigner(key)
    signer.sign(claims(attributes={"secret": ("of the first",)}, subject="the-first"))
    second = signed(key, claims(attributes={"one": ("value",)}, subject="the-second"))
    assert b"of the first" not in second
    assert b"the-first" not in second
    assert len(etree.fromstring(second).findall(".//saml:Attribute", NS)) == 1
