"""The variables by which a job's programs trust our CA, each with where it is documented."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

# "bundle": our CA and the system's roots, for programs whose variable replaces their own list
_BUNDLE = {
    "SSL_CERT_FILE": "OpenSSL SSL_CTX_set_default_verify_paths(3): Python, Ruby, Perl, PHP, wget; Go crypto/x509",
    "CURL_CA_BUNDLE": "curl(1)",
    "REQUESTS_CA_BUNDLE": "Python requests, advanced usage",
    "PIP_CERT": "pip --cert",
    "GIT_SSL_CAINFO": "git-config(1) http.sslCAInfo",
    "AWS_CA_BUNDLE": "AWS CLI and SDKs, environment variables",
    "CARGO_HTTP_CAINFO": "The Cargo Book, http.cainfo",
    "BUNDLE_SSL_CA_CERT": "bundle-config(1) ssl_ca_cert (Ruby)",
    "NIX_SSL_CERT_FILE": "Nix manual",
}
# our CA alone, for programs whose variable adds to their own list, or that need no other
_ALONE = {
    # libpq, and the drivers that read its variables. It reads the whole file for every connection, tens of
    # milliseconds for a system's roots; what it connects to has a certificate of ours.
    "PGSSLROOTCERT": "PostgreSQL, chapter 32.15",
    "NODE_EXTRA_CA_CERTS": "node(1) NODE_EXTRA_CA_CERTS",
    "DENO_CERT": "Deno, environment variables",
}
_JAVA = (
    "-Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStoreType=PKCS12"
    " -Djavax.net.ssl.trustStorePassword=changeit"
)


def trust_environment(ca_folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables to add to a job's `environment`. `ca_folder` is the daemon's `ca` folder."""
    added = {name: str(ca_folder / "bundle.pem") for name in _BUNDLE}
    added |= {name: str(ca_folder / "coatcheck-ca.pem") for name in _ALONE}
    java = _JAVA.format(store=ca_folder / "truststore.p12")  # java(1), JDK_JAVA_OPTIONS; JVM TI, JAVA_TOOL_OPTIONS
    before = environment.get("JAVA_TOOL_OPTIONS", "")
    added["JAVA_TOOL_OPTIONS"] = f"{before} {java}".strip() if java not in before else before
    return added
