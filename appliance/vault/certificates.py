"""The two certificates that we make (RFC 5280): the host's authority, and a leaf for one name."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.model.errors import PeerError

CA_LIFE = timedelta(days=5 * 365)
_CA_BACKDATED = timedelta(days=1)  # a clock that is set back must not make every leaf invalid
_LEAF_BACKDATED = timedelta(hours=1)
_MOST_COMMON_NAME = 64  # RFC 5280 appendix A.1, ub-common-name
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


def make_ca(key: ec.EllipticCurvePrivateKey, host: str, now: datetime) -> x509.Certificate:
    """A self-signed authority for the host named `host`. It may sign leaves, and no other authority."""
    # A name of its own for each key: a client that holds an old and a new one picks by the name first.
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = x509.Name(
        [
            x509.NameAttribute(
                NameOID.COMMON_NAME, f"Coatcheck {identifier.digest.hex()[:8]} {host}"[:_MOST_COMMON_NAME]
            ),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Coatcheck host authority"),
        ]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CA_BACKDATED)
        .not_valid_after(now + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, SHA256())
    )


def make_leaf(
    host: str,
    public_key: ec.EllipticCurvePublicKey,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    life: timedelta,
) -> x509.Certificate:
    """A server certificate for one canonical host name or address literal. Raises PeerError if it is neither."""
    alternative = x509.SubjectAlternativeName([_general_name(host)])
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, host)] if len(host) <= _MOST_COMMON_NAME else []
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(ca.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - _LEAF_BACKDATED, ca.not_valid_before_utc))
        .not_valid_after(min(now + life, ca.not_valid_after_utc))
        # RFC 5280 section 4.2.1.6: critical if there is no subject
        .add_extension(alternative, critical=not subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
        .sign(ca_key, SHA256())
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        if "%" in host:
            raise PeerError("leaf-host", "an address with a zone has no certificate")
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass  # a name, or nothing that we sign
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
        raise PeerError("leaf-host", "not a host name in canonical form (lower case, A-labels) nor an address")
    return x509.DNSName(host)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def utc(seconds: float) -> datetime:
    """Seconds since the epoch as an aware time."""
    return datetime.fromtimestamp(seconds, UTC)
