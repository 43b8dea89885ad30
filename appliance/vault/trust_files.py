"""The public files by which a job's programs trust the authority: PEM for most, PKCS#12 for Java.

A program that is told of a file of roots trusts nothing else: so the bundle and the trust store hold the
system's roots as well.
"""

from __future__ import annotations

import ssl
import warnings
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12
from cryptography.utils import CryptographyDeprecationWarning

from appliance.config.places import Places
from appliance.model.errors import EnvironmentFailed
from appliance.vault.private_files import write_public

# Where distributions keep the bundle, if OpenSSL itself has a folder only (Debian) or is not the system's
_ROOTS = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_BEGIN = b"-----BEGIN CERTIFICATE-----"
_END = b"-----END CERTIFICATE-----"


def system_roots() -> bytes:
    """The system's roots as PEM, or nothing if it has none. Raises EnvironmentFailed if they cannot be read."""
    for file in (ssl.get_default_verify_paths().openssl_cafile, *_ROOTS):
        if file and Path(file).is_file():
            try:
                return Path(file).read_bytes()
            except OSError as error:
                raise EnvironmentFailed("system-roots", f"{file} cannot be read: {error.strerror}") from None
    return b""


def publish(places: Places, ca_pem: str, roots: bytes) -> int:
    """Writes the three files that jobs read; returns how many of `roots` Java's file had to leave out since they
    cannot be parsed. Raises EnvironmentFailed if a file cannot be written."""
    folder = Path(places.ca_file).parent
    try:
        folder.mkdir(mode=0o755, exist_ok=True)
    except OSError as error:
        raise EnvironmentFailed("vault-run", f"{folder} cannot be made: {error.strerror}") from None
    ours = ca_pem.encode()
    trusted, left_out = _parsed(ours + roots)
    write_public(Path(places.ca_file), ours)
    write_public(Path(places.ca_bundle), ours + roots)
    write_public(Path(places.ca_java), _java_store(trusted))
    return left_out


def _parsed(pem: bytes) -> tuple[list[x509.Certificate], int]:
    """The certificates in a file that may have text in between, one by one: an odd root must not hide the rest."""
    certificates, left_out = [], 0
    for part in pem.split(_BEGIN)[1:]:
        body, end, _ = part.partition(_END)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # a system root is as odd as it is
                certificates.append(x509.load_pem_x509_certificate(_BEGIN + body + end + b"\n"))
        except ValueError:
            left_out += 1
    return certificates, left_out


def _java_store(certificates: list[x509.Certificate]) -> bytes:
    """PKCS#12 (RFC 7292) whose bags have the attribute 2.16.840.1.113894.746875.1.1, without which Java takes a
    certificate for a link of somebody's chain and trusts nothing.

    Neither encrypted nor with a MAC: such a file Java reads with any `javax.net.ssl.trustStorePassword` and with
    none; an encrypted one only with its password, one with the MAC of no password only with none."""
    seen: dict[bytes, x509.Certificate] = {c.fingerprint(SHA256()): c for c in certificates}
    entries = [
        pkcs12.PKCS12Certificate(certificate, f"coatcheck-{number:03}".encode())
        for number, certificate in enumerate(seen.values())
    ]
    return _without_mac(pkcs12.serialize_java_truststore(entries, NoEncryption()))


def _without_mac(pfx: bytes) -> bytes:
    """PFX ::= SEQUENCE { version, authSafe, macData OPTIONAL } (RFC 7292 section 4) without its last part."""
    _, start = _element(pfx, 0)
    end_of_version, _ = _element(pfx, start)
    end_of_safe, _ = _element(pfx, end_of_version)
    body = pfx[start:end_of_safe]
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([0x30, 0x80 | len(length)]) + length + body  # long form (X.690 section 8.1.3.5): over 127 bytes


def _element(der: bytes, at: int) -> tuple[int, int]:
    """Where the element at `at` ends, and where its content starts (X.690 section 8.1.3)."""
    length, start = der[at + 1], at + 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[at + 2 : start], "big")
    return start + length, start
