"""A certificate authority of the test's own, made with the openssl program."""

import subprocess


class Authority:
    def __init__(self, directory):
        self.directory = directory
        directory.mkdir()
        self.file = directory / "ca.pem"
        self._openssl(
            "req", "-x509", "-days", "2", "-subj", "/CN=test authority", *KEY,
            "-keyout", "ca.key", "-out", "ca.pem",
        )  # fmt: skip

    def issue(self, name, certificate, key):
        """A certificate for localhost with the common name `name`, put into place by renaming."""
        (self.directory / "extension").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
        self._openssl("req", "-subj", f"/CN={name}", *KEY, "-keyout", "s.key", "-out", "s.csr")
        self._openssl(
            "x509", "-req", "-days", "2", "-in", "s.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-extfile", "extension", "-out", "s.pem",
        )  # fmt: skip
        (self.directory / "s.pem").rename(certificate)
        (self.directory / "s.key").rename(key)

    def _openssl(self, *arguments):
        subprocess.run(
            ["openssl", *arguments], cwd=self.directory, check=True, capture_output=True, timeout=30
        )


KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
