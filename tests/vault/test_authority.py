"""The host's authority: what OpenSSL, curl, Python and Java make of its certificates."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from appliance.config.places import Places
from appliance.config.schema import Config, Tls
from appliance.ipc.messages import Leaf
from appliance.model.errors import Denied, EnvironmentFailed, PeerError
from appliance.vault.authority import DAY, Authority
from appliance.vault.certificates import make_ca, make_leaf, utc
from appliance.vault.trust_files import publish, system_roots
from tests.vault.rig import Clock

HOSTS = [
    "api.github.test",
    "a-b.c_d.test",
    "xn--bcher-kva.test",
    "localhost",
    "192.0.2.7",
    "2001:db8::7",
    "a" * 63 + ".test",
]


class WallClock(Clock):
    """Begins now: programs that we do not write look at the real clock."""

    def __init__(self) -> None:
        self.seconds = float(int(datetime.now(UTC).timestamp()))


@pytest.fixture
def authority(state: Path) -> Authority:
    return Authority(state, Tls(), WallClock().now, "host.test")


def tool(name: str, package: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is missing: apt-get install {package}"
    return found


def certificate(leaf: Leaf) -> x509.Certificate:
    return x509.load_pem_x509_certificate(leaf.chain_pem.encode())


def openssl_verify(ca: Path, leaf: Path, *purpose: str) -> subprocess.CompletedProcess[str]:
    roots = ["-no-CApath", "-no-CAstore", "-CAfile", str(ca)]
    command = [tool("openssl", "openssl"), "verify", "-x509_strict", *roots, *purpose, str(leaf)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("host", HOSTS)
def test_openssl_verifies_every_leaf_strictly(authority: Authority, tmp_path: Path, host: str) -> None:
    ca, leaf = tmp_path / "ca.pem", tmp_path / "leaf.pem"
    ca.write_text(authority.pem())
    leaf.write_text(authority.leaf(host).chain_pem)
    asked = "-verify_ip" if ":" in host or host[0].isdigit() else "-verify_hostname"
    done = openssl_verify(ca, leaf, "-purpose", "sslserver", asked, host)
    assert done.returncode == 0, done.stdout + done.stderr
    assert openssl_verify(ca, leaf, asked, "192.0.2.99" if asked == "-verify_ip" else "other.test").returncode != 0
    assert openssl_verify(ca, leaf, "-purpose", "sslclient").returncode != 0


def test_a_leaf_cannot_sign(authority: Authority, tmp_path: Path) -> None:
    """The proxy holds the leaves' key: it must not become an authority by it."""
    leaf = authority.leaf("api.github.test")
    key = ec.generate_private_key(ec.SECP256R1())
    leaf_key = load_pem_private_key(leaf.key_pem.encode(), None)
    assert isinstance(leaf_key, ec.EllipticCurvePrivateKey)
    now = datetime.now(UTC)
    forged = make_leaf("other.test", key.public_key(), certificate(leaf), leaf_key, now, timedelta(days=1))
    (tmp_path / "ca.pem").write_text(authority.pem())
    (tmp_path / "leaf.pem").write_text(leaf.chain_pem)
    (tmp_path / "forged.pem").write_bytes(forged.public_bytes(Encoding.PEM))
    done = openssl_verify(tmp_path / "ca.pem", tmp_path / "forged.pem", "-untrusted", str(tmp_path / "leaf.pem"))
    assert done.returncode != 0
    assert "invalid CA certificate" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "host",
    [
        "", ".", "a..b", "*.test", "A.test", "a.test.", "a b.test", "a\0.test", "-a.test", "a-.test", "bücher.test",
        "a" * 64 + ".test", ("a" * 60 + ".") * 5 + "test", "1.2.3", "1.2.3.4.5", "0x7f000001", "fe80::1%eth0", "[::1]",
        "a.test:443", "user@a.test", "a/b", "127.1",
    ],
)  # fmt: skip
def test_what_is_no_canonical_host_is_not_signed(authority: Authority, host: str) -> None:
    if host == "0x7f000001":
        assert authority.leaf(host)  # one label of letters and digits: a name, if an odd one
        return
    with pytest.raises(PeerError) as caught:
        authority.leaf(host)
    assert caught.value.code == "leaf-host"


CA_KEY = ec.generate_private_key(ec.SECP256R1())
CA = make_ca(CA_KEY, "host.test", utc(1_800_000_000))


@given(st.text(max_size=80), st.floats(1, 1e9))
def test_any_text_is_signed_as_itself_or_refused(host: str, life: float) -> None:
    now = utc(1_800_000_000)
    try:
        leaf = make_leaf(host, CA_KEY.public_key(), CA, CA_KEY, now, timedelta(seconds=life))
    except PeerError:
        return
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (name,) = names
    assert str(name.value) == host or ":" in host  # IPv6 has several spellings
    assert leaf.not_valid_after_utc <= CA.not_valid_after_utc
    assert CA.not_valid_before_utc <= leaf.not_valid_before_utc < now < leaf.not_valid_after_utc


def test_times_of_a_leaf(state: Path, clock: Clock) -> None:
    authority = Authority(state, Tls(leaf_life=7200), clock.now, "host.test")
    leaf = authority.leaf("a.test")
    assert leaf.not_after == clock.now() + 7200
    assert certificate(leaf).not_valid_before_utc == utc(clock.now() - 3600)
    clock.move(3599)
    assert authority.leaf("a.test") == leaf
    clock.move(2)
    assert authority.leaf("a.test").not_after > leaf.not_after  # at least half of its life is left


def test_a_host_with_a_long_name_has_an_authority(state: Path, clock: Clock) -> None:
    authority = Authority(state, Tls(), clock.now, "h" * 200)
    assert "Coatcheck" in x509.load_pem_x509_certificate(authority.pem().encode()).subject.rfc4514_string()


def test_the_cache_is_bounded_and_the_least_used_goes(state: Path, clock: Clock) -> None:
    authority = Authority(state, Tls(leaf_cache=3), clock.now)
    first = authority.leaf("h0.test")
    for n in (1, 2):
        authority.leaf(f"h{n}.test")
    assert authority.leaf("h0.test") is first
    authority.leaf("h3.test")  # h1 goes
    assert authority.leaves == 3
    assert authority.leaf("h0.test") is first
    minted = authority.minted
    authority.leaf("h1.test")
    assert authority.minted == minted + 1


def test_new_names_have_a_rate(state: Path, clock: Clock) -> None:
    authority = Authority(state, Tls(), clock.now)
    for n in range(500):
        authority.leaf(f"h{n}.test")
    with pytest.raises(Denied) as caught:
        authority.leaf("h500.test")
    assert caught.value.rule == "leaf-rate"
    assert authority.minted == 500
    assert authority.leaf("h499.test")  # known ones are free
    clock.move(1)
    for n in range(100):
        authority.leaf(f"again{n}.test")
    with pytest.raises(Denied):
        authority.leaf("one-more.test")


def test_the_authority_is_kept_and_private(state: Path, clock: Clock) -> None:
    first = Authority(state, Tls(), clock.now)
    assert Authority(state, Tls(), clock.now).pem() == first.pem()
    file = state / "ca.pem"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in first.pem()
    file.chmod(0o640)
    with pytest.raises(EnvironmentFailed, match="others may have read"):
        Authority(state, Tls(), clock.now)
    file.chmod(0o600)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(EnvironmentFailed, match="damaged") as caught:
        Authority(state, Tls(), clock.now)
    assert "BEGIN" not in str(caught.value)
    file.write_bytes(content)
    file.rename(state / "elsewhere.pem")
    file.symlink_to(state / "elsewhere.pem")
    with pytest.raises(EnvironmentFailed, match=r"ca\.pem cannot be read"):
        Authority(state, Tls(), clock.now)


def test_key_and_certificate_must_belong_together(state: Path, clock: Clock) -> None:
    Authority(state, Tls(), clock.now)
    one = (state / "ca.pem").read_bytes()
    (state / "ca.pem").unlink()
    Authority(state, Tls(), clock.now)
    other = (state / "ca.pem").read_bytes()
    cut = b"-----BEGIN PRIVATE"
    (state / "ca.pem").write_bytes(one.partition(cut)[0] + cut + other.partition(cut)[2])
    with pytest.raises(EnvironmentFailed, match="not the certificate's"):
        Authority(state, Tls(), clock.now)


def test_a_state_folder_that_cannot_be_written_is_named(clock: Clock, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match=r"missing/ca\.pem cannot be written: No such file"):
        Authority(tmp_path / "missing", Tls(), clock.now)


def test_a_successor_is_trusted_before_it_signs(state: Path, clock: Clock, tmp_path: Path) -> None:
    authority = Authority(state, Tls(), clock.now)
    old_pem, ends = authority.pem(), authority.not_after
    clock.seconds = ends - 61 * DAY
    assert not authority.renew()
    clock.seconds = ends - 59 * DAY
    assert authority.renew()
    assert not authority.renew()
    both = authority.pem()
    assert both.startswith(old_pem)
    assert both.count("BEGIN") == 2
    assert authority.not_after > ends
    old_ca, new_ca = x509.load_pem_x509_certificates(both.encode())
    certificate(authority.leaf("a.test")).verify_directly_issued_by(old_ca)
    assert Authority(state, Tls(), clock.now).pem() == both  # also after a restart
    clock.seconds = ends - 29 * DAY
    assert authority.renew()
    certificate(authority.leaf("a.test")).verify_directly_issued_by(new_ca)  # the cached one is gone
    assert x509.load_pem_x509_certificates(authority.pem().encode()) == [new_ca]
    restarted = Authority(state, Tls(), clock.now)
    assert restarted.pem() == authority.pem()
    assert not (state / "ca-next.pem").exists()


def test_an_authority_that_ended_while_we_were_away_is_replaced_at_the_start(state: Path, clock: Clock) -> None:
    ends = Authority(state, Tls(), clock.now).not_after
    clock.seconds = ends + DAY
    authority = Authority(state, Tls(), clock.now)
    assert authority.not_after > clock.now()
    assert authority.leaf("a.test").not_after > clock.now()


# ---- real clients ----


class Server:
    """A TLS server of OpenSSL's (by the ssl module) that shows one leaf to whoever comes."""

    def __init__(self, leaf: Leaf, folder: Path) -> None:
        chain, key = folder / "chain.pem", folder / "key.pem"
        chain.write_text(leaf.chain_pem)
        key.write_text(leaf.key_pem)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(chain, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(raw, server_side=True) as peer:
                    peer.recv(65536)
                    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            except OSError:
                continue  # a client that does not trust us


@pytest.fixture
def places(state: Path) -> Places:
    places = Places(Config(run_dir=str(state.parent / "run"), state_dir=str(state.parent)))
    places.run.mkdir(mode=0o755)
    return places


def test_curl_and_python_trust_a_leaf_by_the_published_files(
    authority: Authority, places: Places, tmp_path: Path
) -> None:
    publish(places, authority.pem(), system_roots())
    with Server(authority.leaf("api.github.test"), tmp_path) as server:
        for file in (places.ca_file, places.ca_bundle):
            context = ssl.create_default_context(cafile=file)
            context.verify_flags |= ssl.VERIFY_X509_STRICT
            with (
                socket.create_connection(("127.0.0.1", server.port)) as raw,
                context.wrap_socket(raw, server_hostname="api.github.test") as tls,
            ):
                tls.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert tls.recv(100).startswith(b"HTTP/1.1 200")
        command = [
            tool("curl", "curl"), "-sS", "--noproxy", "*", "--resolve", f"api.github.test:{server.port}:127.0.0.1",
            f"https://api.github.test:{server.port}/",
        ]  # fmt: skip
        trusting = subprocess.run(
            command, env=os.environ | {"CURL_CA_BUNDLE": places.ca_bundle}, capture_output=True, text=True, check=False
        )
        assert (trusting.returncode, trusting.stdout) == (0, "ok"), trusting.stderr
        environment = {name: value for name, value in os.environ.items() if name != "CURL_CA_BUNDLE"}
        assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 60


def test_published_files_are_for_everybody_and_hold_no_key(authority: Authority, places: Places) -> None:
    assert publish(places, authority.pem(), system_roots()) == 0
    for name in (places.ca_file, places.ca_bundle, places.ca_java):
        file = Path(name)
        assert file.stat().st_mode & 0o777 == 0o644
        assert b"PRIVATE" not in file.read_bytes()
    assert Path(places.ca_file).parent.stat().st_mode & 0o005 == 0o005
    bundle = Path(places.ca_bundle).read_text()
    assert bundle.startswith(Path(places.ca_file).read_text())
    assert bundle.count("BEGIN CERT") > 50, "the system has no roots: apt-get install ca-certificates"


def test_a_root_that_cannot_be_parsed_hides_no_other(authority: Authority, places: Places) -> None:
    roots = b"# some text\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + system_roots()
    assert publish(places, authority.pem(), roots) == 1


def test_keytool_lists_our_authority_as_trusted(authority: Authority, places: Places) -> None:
    publish(places, authority.pem(), system_roots())
    done = subprocess.run(
        [tool("keytool", "default-jre-headless"), "-list", "-keystore", places.ca_java, "-storepass", "changeit"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    ours = x509.load_pem_x509_certificate(authority.pem().encode())
    assert ours.fingerprint(SHA256()).hex(":").upper() in done.stdout
    assert done.stdout.count("trustedCertEntry") == Path(places.ca_bundle).read_text().count("BEGIN CERT")


JAVA = """
import java.net.*;
import javax.net.ssl.*;

public class Fetch {
    public static void main(String[] words) throws Exception {
        SSLSocketFactory factory = (SSLSocketFactory) SSLSocketFactory.getDefault();
        Socket raw = new Socket("127.0.0.1", Integer.parseInt(words[0]));
        SSLSocket tls = (SSLSocket) factory.createSocket(raw, words[1], 443, true);
        SSLParameters parameters = tls.getSSLParameters();
        parameters.setEndpointIdentificationAlgorithm("HTTPS");
        tls.setSSLParameters(parameters);
        tls.getOutputStream().write("GET / HTTP/1.1\\r\\n\\r\\n".getBytes());
        System.out.print(new String(tls.getInputStream().readNBytes(12)));
    }
}
"""


@pytest.mark.parametrize("password", [[], ["-Djavax.net.ssl.trustStorePassword=changeit"]])
def test_a_java_program_trusts_a_leaf(
    authority: Authority, places: Places, tmp_path: Path, password: list[str]
) -> None:
    publish(places, authority.pem(), system_roots())
    source = tmp_path / "Fetch.java"
    source.write_text(JAVA)
    tool("javac", "default-jdk-headless")
    java = tool("java", "default-jdk-headless")
    options = ["-XX:TieredStopAtLevel=1", "-Xshare:auto"]
    trust = [f"-Djavax.net.ssl.trustStore={places.ca_java}", *password]
    with Server(authority.leaf("api.github.test"), tmp_path) as server:
        words = [str(source), str(server.port)]
        done = subprocess.run(
            [java, *options, *trust, *words, "api.github.test"], capture_output=True, text=True, check=False
        )
        assert done.stdout == "HTTP/1.1 200", done.stderr
        other = subprocess.run(
            [java, *options, *trust, *words, "other.test"], capture_output=True, text=True, check=False
        )
        assert "No subject alternative DNS name matching other.test" in other.stderr
