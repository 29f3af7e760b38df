"""An authority for one lab, and what it signs: certificates of the server, of its users and of its nodes.

EC P-256 throughout. The authority lives as long as the lab's worker, which holds its key; a file holds it
only where a controller manager needs it, which signs what kubelets ask for.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.apiserver.files import KubeDir, write_private
from lab.families import Address

_LIFE = datetime.timedelta(days=365)
_SKEW = datetime.timedelta(hours=1)
_SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


@dataclass(frozen=True, slots=True)
class User:
    """What the API server reads out of a client's certificate: user name and group."""

    name: str
    group: str = "lab"


@dataclass(frozen=True, slots=True)
class Pair:
    """Certificate and key, PEM."""

    certificate: bytes
    key: bytes

    def write(self, directory: KubeDir, who: str) -> None:
        """Raises OSError."""
        write_private(directory.certificate(who), self.certificate)
        write_private(directory.key(who), self.key)


@dataclass(frozen=True, slots=True)
class _Subject:
    common_name: str
    organization: str
    usage: x509.ObjectIdentifier
    alternatives: tuple[x509.GeneralName, ...] = ()


def make(directory: KubeDir, addresses: Sequence[Address]) -> Authority:
    """Certificates and keys ``ca`` (no key), ``server`` and ``admin``, and the key ``accounts``.

    ``addresses`` are the server's. ``accounts`` signs the tokens of service accounts. Raises OSError.
    """
    authority = Authority()
    write_private(directory.certificate("ca"), authority.pem)
    authority.server("kube-apiserver", addresses).write(directory, "server")
    authority.client(User("lab-admin", "system:masters")).write(directory, "admin")
    write_private(directory.key("accounts"), _key_pem(_new_key()))
    return authority


class Authority:
    def __init__(self) -> None:
        self._key = _new_key()
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "terway-lab")])
        builder = _builder(self._name, self._key).issuer_name(self._name)
        self._certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return _pem(self._certificate)

    @property
    def key_pem(self) -> bytes:
        return _key_pem(self._key)

    def client(self, user: User) -> Pair:
        return self._issue(_Subject(user.name, user.group, ExtendedKeyUsageOID.CLIENT_AUTH))

    def server(self, name: str, addresses: Sequence[Address]) -> Pair:
        names = (*map(x509.DNSName, _SERVER_NAMES), *map(x509.IPAddress, addresses))
        return self._issue(_Subject(name, "lab", ExtendedKeyUsageOID.SERVER_AUTH, names))

    def _issue(self, subject: _Subject) -> Pair:
        key = _new_key()
        return Pair(_pem(self._sign(subject, key)), _key_pem(key))

    def _sign(self, subject: _Subject, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        attributes = [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, subject.organization),
            x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name),
        ]
        builder = (
            _builder(x509.Name(attributes), key)
            .issuer_name(self._name)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([subject.usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if subject.alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(subject.alternatives), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _builder(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
