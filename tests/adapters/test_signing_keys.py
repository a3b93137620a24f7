"""The folder of the signing key: made once, private, and refused when anything in it does not fit."""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from broker.adapters.signing_keys import FileSigningKey, SigningKeyFolder
from broker.core.errors import SigningKeyUnusable
from broker.core.key_rollover import Confirmation

AnyPrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | dsa.DSAPrivateKey

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
YEAR = timedelta(days=365)


@pytest.fixture
def folder(tmp_path: Path) -> SigningKeyFolder:
    return SigningKeyFolder(tmp_path / "state" / "keys")


def create(folder: SigningKeyFolder) -> FileSigningKey:
    return folder.create_first("Federation Broker", YEAR, 2048, NOW)


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(SigningKeyUnusable) as caught:
        act()
    (fault,) = caught.value.faults
    assert "PRIVATE KEY" not in str(caught.value)
    return str(fault)


def test_the_first_key_is_the_active_one_and_read_again_it_is_the_same(folder: SigningKeyFolder) -> None:
    made = create(folder)
    read = folder.active(NOW)
    assert (read.id, read.certificate_der, read.not_after) == (made.id, made.certificate_der, made.not_after)
    assert read.not_after == NOW + YEAR
    assert (folder.path / "active").read_text() == f"{made.id}\n"


def test_the_certificate_says_who_and_how_long_and_signs_itself(folder: SigningKeyFolder) -> None:
    certificate = x509.load_der_x509_certificate(create(folder).certificate_der)
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "Federation Broker"
    assert certificate.issuer == certificate.subject
    assert certificate.not_valid_before_utc <= NOW
    assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
    certificate.verify_directly_issued_by(certificate)
    public = certificate.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    assert (public.key_size, public.public_numbers().e) == (2048, 65537)


def test_a_long_name_is_shortened_to_what_a_certificate_holds(folder: SigningKeyFolder) -> None:
    made = folder.create_first("x" * 100, YEAR, 2048, NOW)
    certificate = x509.load_der_x509_certificate(made.certificate_der)
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "x" * 64


def test_a_signature_is_verified_by_the_certificate_and_belongs_to_its_bytes(folder: SigningKeyFolder) -> None:
    key = create(folder)
    public = x509.load_der_x509_certificate(key.certificate_der).public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    signature = key.sign(b"bytes")
    public.verify(signature, b"bytes", padding.PKCS1v15(), hashes.SHA256())
    with pytest.raises(InvalidSignature):
        public.verify(signature, b"other", padding.PKCS1v15(), hashes.SHA256())


def test_the_private_key_and_its_folder_are_for_the_broker_alone(folder: SigningKeyFolder) -> None:
    before = os.umask(0)
    try:
        made = create(folder)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [folder.path, *folder.path.iterdir()]}
    assert modes == {"keys": 0o700, f"{made.id}.key.pem": 0o600, f"{made.id}.crt.pem": 0o644, "active": 0o644}


def test_a_key_does_not_show_itself(folder: SigningKeyFolder) -> None:
    made = create(folder)
    assert repr(made) == str(made) == f"FileSigningKey({made.id})"
    with pytest.raises(TypeError):
        pickle.dumps(made)


def test_a_second_key_is_not_made_over_the_first(folder: SigningKeyFolder) -> None:
    create(folder)
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    assert refusal(lambda: create(folder)) == (
        f"saml.keys: {folder.path} holds an active key already; nothing was changed"
    )
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before


def test_a_weak_key_is_not_made(folder: SigningKeyFolder) -> None:
    weak = refusal(lambda: folder.create_first("x", YEAR, 1024, NOW))
    assert weak == "--bits: a signing key has at least 2048 bits and at most 4096"
    assert refusal(lambda: folder.create_first("x", YEAR, 4097, NOW)) == weak
    assert not folder.path.exists()


def test_a_folder_that_cannot_be_made_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fault = refusal(lambda: create(SigningKeyFolder(tmp_path / "file" / "keys")))
    assert fault == f"saml.keys: {tmp_path}/file/keys cannot be used: Not a directory"


def test_drafts_that_an_interrupted_run_left_are_in_nobodys_way(folder: SigningKeyFolder) -> None:
    folder.path.mkdir(parents=True)
    (folder.path / "active.new").write_text("half")
    made = create(folder)
    assert folder.active(NOW).id == made.id
    assert not (folder.path / "active.new").exists()


# --- Reading


def test_a_folder_without_a_key_says_which_command_makes_one(folder: SigningKeyFolder) -> None:
    expected = f"saml.keys: {folder.path} holds no active key: run `broker keys new`"
    assert refusal(lambda: folder.active(NOW)) == expected


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o644, 0o602, 0o620])
def test_a_private_key_that_others_can_read_or_write_is_refused(folder: SigningKeyFolder, mode: int) -> None:
    path = folder.path / f"{create(folder).id}.key.pem"
    path.chmod(mode)
    assert refusal(lambda: folder.active(NOW)) == f"saml.keys: others can read {path}: chmod 600 {path}"


@pytest.mark.parametrize("suffix", ["key", "crt"])
def test_a_missing_file_is_named(folder: SigningKeyFolder, suffix: str) -> None:
    path = folder.path / f"{create(folder).id}.{suffix}.pem"
    path.unlink()
    assert refusal(lambda: folder.active(NOW)) == f"saml.keys: {path} cannot be used: No such file or directory"


GARBAGE = [b"", b"\x00\xff", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"x" * 10_000]


@pytest.mark.parametrize("suffix", ["key", "crt"])
@pytest.mark.parametrize("content", GARBAGE)
def test_garbage_in_a_file_is_a_fault_with_its_name(folder: SigningKeyFolder, suffix: str, content: bytes) -> None:
    path = folder.path / f"{create(folder).id}.{suffix}.pem"
    path.write_bytes(content)
    assert refusal(lambda: folder.active(NOW)) == f"saml.keys: {path} cannot be used: it is not what its name says"


@pytest.mark.parametrize("content", [b"", b"\xff", b"nothing-of-this-name", b"a\x00b", b"x" * 5000])
def test_an_active_file_that_names_no_key_is_a_fault(folder: SigningKeyFolder, content: bytes) -> None:
    create(folder)
    (folder.path / "active").write_bytes(content)
    assert refusal(lambda: folder.active(NOW)).startswith("saml.keys: ")


def put(
    folder: SigningKeyFolder,
    private: AnyPrivateKey,
    encryption: KeySerializationEncryption | None = None,
) -> Path:
    """Put another private key in the place of the folder's."""
    path = folder.path / f"{create(folder).id}.key.pem"
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    return path


def test_a_key_that_is_not_the_certificates_is_refused(folder: SigningKeyFolder) -> None:
    path = put(folder, rsa.generate_private_key(65537, 2048))
    certificate = Path(str(path).replace(".key.", ".crt."))
    expected = f"saml.keys: {path} is not the key of {certificate}: restore the pair"
    assert refusal(lambda: folder.active(NOW)) == expected


def test_a_weak_key_is_refused(folder: SigningKeyFolder) -> None:
    path = put(folder, rsa.generate_private_key(65537, 1024))  # noqa: S505 - what is refused
    assert refusal(lambda: folder.active(NOW)) == (
        f"saml.keys: {path} has 1024 bits, fewer than the 2048 of a signing key: `broker keys new` makes one that fits"
    )


def test_a_key_that_is_larger_than_any_that_is_made_here_is_refused(folder: SigningKeyFolder) -> None:
    path = put(folder, rsa.generate_private_key(65537, 4104))
    assert refusal(lambda: folder.active(NOW)) == (
        f"saml.keys: {path} has 4104 bits, more than 4096: `broker keys new` makes one that fits"
    )


def test_a_key_with_a_small_exponent_is_refused(folder: SigningKeyFolder) -> None:
    path = put(folder, rsa.generate_private_key(3, 2048))
    assert f"{path} has the public exponent 3, less than 65537" in refusal(lambda: folder.active(NOW))


OTHER_KINDS: dict[str, Callable[[], AnyPrivateKey]] = {
    "EC": lambda: ec.generate_private_key(ec.SECP256R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "DSA": lambda: dsa.generate_private_key(2048),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_a_key_of_another_kind_is_refused_and_what_to_do_is_said(folder: SigningKeyFolder, kind: str) -> None:
    path = put(folder, OTHER_KINDS[kind]())
    assert refusal(lambda: folder.active(NOW)) == (
        f"saml.keys: {path} is of a kind that is not used here ({kind}), but RSA is: "
        "`broker keys new` makes one that fits"
    )


def test_a_key_under_a_passphrase_is_refused_and_what_to_do_is_said(folder: SigningKeyFolder) -> None:
    path = put(folder, rsa.generate_private_key(65537, 2048), BestAvailableEncryption(b"passphrase"))
    assert refusal(lambda: folder.active(NOW)) == (
        f"saml.keys: {path} is under a passphrase, and nobody is there to type it: store it without one"
    )


def test_a_certificate_of_another_kind_of_key_is_refused(folder: SigningKeyFolder) -> None:
    made = create(folder)
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    certificate = x509.CertificateBuilder(name, name, private.public_key(), 1, NOW, NOW + YEAR).sign(
        private, hashes.SHA256()
    )
    path = folder.path / f"{made.id}.crt.pem"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    assert f"{path} is of a kind that is not used here (EC)" in refusal(lambda: folder.active(NOW))


def test_a_certificate_that_is_signed_with_pss_is_refused(folder: SigningKeyFolder) -> None:
    made = create(folder)
    path = folder.path / f"{made.id}.crt.pem"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    private = rsa.generate_private_key(65537, 2048)
    builder = x509.CertificateBuilder(name, name, private.public_key(), 1, NOW, NOW + YEAR)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    path.write_bytes(builder.sign(private, hashes.SHA256(), rsa_padding=pss).public_bytes(Encoding.PEM))
    assert f"{path} is signed with RSASSA-PSS: have it signed with PKCS #1 v1.5" in refusal(lambda: folder.active(NOW))


def test_a_key_that_its_certificate_keeps_for_pss_is_refused(folder: SigningKeyFolder) -> None:
    path = folder.path / f"{create(folder).id}.crt.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa-pss",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
            "-noenc",
            "-subj",
            "/CN=x",
            "-keyout",
            str(folder.path / "other"),
            "-out",
            str(path),
        ],
        check=True,
        capture_output=True,
    )
    assert f"{path} keeps its key for signatures of another kind (RSASSA-PSS)" in refusal(lambda: folder.active(NOW))


# A self-signed certificate of 2,048 bits with SHA-1; the library reads such certificates and no longer makes them.
def sha1_certificate(folder: SigningKeyFolder) -> Path:
    made = create(folder)
    certificate = folder.path / f"{made.id}.crt.pem"
    key = folder.path / f"{made.id}.key.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-sha1",
            "-key",
            str(key),
            "-subj",
            "/CN=x",
            "-days",
            "9",
            "-out",
            str(certificate),
        ],
        check=True,
        capture_output=True,
    )
    return certificate


def test_a_certificate_that_is_signed_with_sha1_is_refused(folder: SigningKeyFolder) -> None:
    path = sha1_certificate(folder)
    assert refusal(lambda: folder.active(datetime.now(UTC))) == (
        f"saml.keys: {path} is signed with sha1: have it signed with SHA-256, or `broker keys new` makes one that fits"
    )


# --- More than one key


def further(folder: SigningKeyFolder, days: int = 1) -> str:
    return folder.create("Federation Broker", YEAR, 2048, NOW + timedelta(days=days)).key_id


def test_a_further_key_does_not_sign_until_it_is_made_active(folder: SigningKeyFolder) -> None:
    first, second = create(folder).id, further(folder)
    assert folder.active(NOW).id == first
    assert [one.key_id for one in folder.certificates()] == [first, second]
    folder.make_active(second)
    assert folder.active(NOW + YEAR).id == second


def test_a_retired_key_is_kept_apart_and_private(folder: SigningKeyFolder) -> None:
    first, second = create(folder).id, further(folder)
    folder.retire(second, destroy=False)
    assert [one.key_id for one in folder.certificates()] == [first]
    assert [one.key_id for one in folder.certificates(retired=True)] == [second]
    assert folder.has_private_key(second, retired=True)
    assert not folder.has_private_key(second)
    retired = folder.path / "retired"
    assert stat.S_IMODE(retired.stat().st_mode) == 0o700
    assert stat.S_IMODE((retired / f"{second}.key.pem").stat().st_mode) == 0o600


def test_a_private_key_is_destroyed_at_once_or_later_and_the_certificate_stays(folder: SigningKeyFolder) -> None:
    create(folder)
    second, third = further(folder), further(folder, 2)
    folder.retire(second, destroy=True)
    folder.retire(third, destroy=False)
    folder.retire(third, destroy=True)
    assert {one.key_id for one in folder.certificates(retired=True)} == {second, third}
    assert not list(folder.path.rglob(f"{second}.key.pem")) + list(folder.path.rglob(f"{third}.key.pem"))


def test_retiring_goes_on_where_it_was_broken_off(folder: SigningKeyFolder) -> None:
    create(folder)
    second = further(folder)
    (folder.path / "retired").mkdir()
    (folder.path / f"{second}.crt.pem").rename(folder.path / "retired" / f"{second}.crt.pem")
    folder.retire(second, destroy=False)
    assert folder.has_private_key(second, retired=True)
    assert not folder.has_private_key(second)


def test_restoring_goes_on_where_it_was_broken_off(folder: SigningKeyFolder) -> None:
    create(folder)
    second = further(folder)
    folder.retire(second, destroy=False)
    (folder.path / "retired" / f"{second}.key.pem").rename(folder.path / f"{second}.key.pem")
    folder.restore(second)
    assert folder.pair(second, None).id == second
    assert "No such file" in refusal(lambda: folder.restore(second))


def test_the_stamp_changes_with_the_active_key_and_with_the_metadata(folder: SigningKeyFolder) -> None:
    create(folder)
    second = further(folder)
    seen = [folder.stamp()]
    assert folder.stamp() == seen[0]
    folder.keep_metadata(b"<x/>")
    seen.append(folder.stamp())
    folder.make_active(second)
    seen.append(folder.stamp())
    assert len(set(seen)) == 3


def test_a_pair_is_refused_under_the_name_of_another_key(folder: SigningKeyFolder) -> None:
    made = create(folder)
    for ending in (".key.pem", ".crt.pem"):
        (folder.path / (made.id + ending)).rename(folder.path / ("company" + ending))
    folder.make_active("company")
    for read in (lambda: folder.active(NOW), folder.certificates):
        assert f"company.crt.pem belongs to key {made.id}" in refusal(read)


def test_what_the_operator_confirmed_is_kept(folder: SigningKeyFolder) -> None:
    create(folder)
    assert folder.confirmations() == {}
    said = {"arn:aws:iam::111122223333:saml-provider/broker": Confirmation("ab" * 32, NOW)}
    folder.keep_confirmations(said)
    assert folder.confirmations() == said


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"arn": 1}',
        b'{"arn": {"at": "x", "metadata_sha256": ""}}',
        b'{"arn": {"at": "2026-11-24T09:00:00", "metadata_sha256": ""}}',
        b"[" * 100_000,
        b"\xff",
    ],
    ids=range(7),
)
def test_confirmations_that_cannot_be_read_are_a_fault(folder: SigningKeyFolder, content: bytes) -> None:
    create(folder)
    (folder.path / "told-aws.json").write_bytes(content)
    assert "told-aws.json cannot be used" in refusal(folder.confirmations)


# --- A private key that systemd hands over


def as_credential(folder: SigningKeyFolder, credentials: Path) -> SigningKeyFolder:
    """Move the first key out of the folder to where systemd 254 puts it, with the modes that it shows there."""
    made = create(folder)
    credentials.mkdir(mode=0o700)
    private = credentials / f"{made.id}.key.pem"
    (folder.path / private.name).rename(private)
    private.chmod(0o440)
    credentials.chmod(0o550)
    return SigningKeyFolder(folder.path, credentials)


@pytest.fixture(autouse=True)
def in_roots_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root can make a file of root's group; whoever runs the tests takes root's place."""
    monkeypatch.setattr("broker.private_files._ROOTS_GROUP", tmp_path.stat().st_gid)


def test_a_private_key_may_be_a_credential_of_the_service(folder: SigningKeyFolder, tmp_path: Path) -> None:
    served = as_credential(folder, tmp_path / "credentials")
    assert served.active(NOW).sign(b"x")


def test_outside_the_service_a_credential_is_not_found(folder: SigningKeyFolder, tmp_path: Path) -> None:
    as_credential(folder, tmp_path / "credentials")
    assert "No such file or directory" in refusal(lambda: folder.active(NOW))


def test_a_key_that_is_no_credential_either_is_missed_in_both_places(folder: SigningKeyFolder, tmp_path: Path) -> None:
    served = as_credential(folder, tmp_path / "credentials")
    name = next((tmp_path / "credentials").iterdir())
    name.unlink()
    fault = refusal(lambda: served.active(NOW))
    assert f"{name.name} is neither in {folder.path} nor among the credentials of the service" in fault
    assert "LoadCredential=" in fault


def test_a_credential_that_is_the_key_of_another_certificate_is_named_in_the_unit(
    folder: SigningKeyFolder, tmp_path: Path
) -> None:
    served = as_credential(folder, tmp_path / "credentials")
    path = next((tmp_path / "credentials").iterdir())
    other = rsa.generate_private_key(65537, 2048)
    path.chmod(0o600)
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    fault = refusal(lambda: served.active(NOW))
    assert fault.endswith("let LoadCredential= of the unit name the file that holds it, and restart the service")
    under_passphrase = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase"))
    path.write_bytes(under_passphrase)
    assert refusal(lambda: served.active(NOW)).endswith("store it without one where systemd takes it from")


def test_a_credential_that_others_can_read_is_refused(folder: SigningKeyFolder, tmp_path: Path) -> None:
    served = as_credential(folder, tmp_path / "credentials")
    next((tmp_path / "credentials").iterdir()).chmod(0o444)
    assert "LoadCredential=" in refusal(lambda: served.active(NOW))


@pytest.mark.parametrize("now", [NOW - timedelta(days=1), NOW + YEAR, NOW + 2 * YEAR])
def test_a_certificate_that_does_not_hold_now_is_refused(folder: SigningKeyFolder, now: datetime) -> None:
    path = folder.path / f"{create(folder).id}.crt.pem"
    assert refusal(lambda: folder.active(now)) == (
        f"saml.keys: {path} is valid from 2026-11-23 to 2027-11-23: check the clock, or make a new key"
    )


def test_a_certificate_holds_until_its_last_second(folder: SigningKeyFolder) -> None:
    create(folder)
    assert folder.active(NOW + YEAR - timedelta(seconds=1)).not_after == NOW + YEAR


# --- Metadata


def test_metadata_is_kept_and_given_back_byte_for_byte(folder: SigningKeyFolder) -> None:
    create(folder)
    folder.keep_metadata(b"<one/>")
    folder.keep_metadata("<two>日本</two>".encode())
    assert folder.metadata() == "<two>日本</two>".encode()
    assert not list(folder.path.glob("*.new"))


def test_metadata_that_is_not_there_says_which_command_makes_it(folder: SigningKeyFolder) -> None:
    advice = "run `broker keys new`, or with a key `broker metadata --sign`"
    expected = f"saml.keys: {folder.path} holds no metadata: {advice}"
    assert refusal(folder.metadata) == expected


def test_metadata_that_cannot_be_read_or_written_is_a_fault(folder: SigningKeyFolder) -> None:
    path = folder.path / "metadata.xml"
    missing = f"saml.keys: {path} cannot be used: No such file or directory"
    assert refusal(lambda: folder.keep_metadata(b"<x/>")) == missing
    path.mkdir(parents=True)
    assert refusal(folder.metadata) == f"saml.keys: {path} cannot be used: Is a directory"
