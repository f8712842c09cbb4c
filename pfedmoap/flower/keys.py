"""Certificates and keys, made on the spot: TLS for the server, one key per node, all readable by their owner only."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pfedmoap.flower.links import LOOPBACK
from pfedmoap.system import PRIVATE_FILE, write_atomically

DAYS = 365


def make_server_certificate(folder: Path, host: str = LOOPBACK) -> None:
    """Writes ca.pem, server.pem and server.key; the authority's own key is not kept, so that it signs nothing else.

    Args:
        host: the name or address that nodes reach the server by, besides the loopback's.
    """
    authority_key, server_key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    authority, server = _name("pfedmoap authority"), _name("pfedmoap server")
    names = x509.SubjectAlternativeName([_alternative(name) for name in dict.fromkeys((LOOPBACK, "localhost", host))])
    ca = (_builder(authority, authority, authority_key)
          .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
          .sign(authority_key, hashes.SHA384()))
    certificate = (_builder(server, authority, server_key)
                   .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                   .add_extension(names, critical=False)
                   .sign(authority_key, hashes.SHA384()))
    for name, content in (("ca.pem", ca), ("server.pem", certificate)):
        write_atomically(folder / name, content.public_bytes(serialization.Encoding.PEM), PRIVATE_FILE)
    write_atomically(folder / "server.key", _private(server_key), PRIVATE_FILE)


def make_node_key(folder: Path) -> None:
    """Writes node.key, by which a node proves who it is, and node.pub, which the server is told."""
    key = ec.generate_private_key(ec.SECP384R1())
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    write_atomically(folder / "node.key", _private(key, serialization.PrivateFormat.OpenSSH), PRIVATE_FILE)
    write_atomically(folder / "node.pub", public, PRIVATE_FILE)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=DAYS)))


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private(
    key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8
) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
