"""What must be in no output of a proxy: every secret it was given, and those of its requests."""

import json
import re
from pathlib import Path

#: Settings whose value is a secret; names that end in _FILE tell where one is.
SECRET_SETTING = re.compile(r"SECRET_KEY|PASSWORD|TOKEN")
#: Shorter ones are placeholders of a test and would be found in anything.
SECRET_CHARACTERS_MIN = 8
#: Signatures of either version in a query or a header, and customers' own keys.
OF_REQUESTS = (
    re.compile(r"[Ss]ignature[=:] ?[0-9A-Fa-f]{64}"),
    re.compile(r"AWSAccessKeyId="),
    re.compile(r"customer-key\W{1,5}[0-9A-Za-z+/]{43}="),
)


def fail_on_leaks(proxy, output, known):
    """`known` is {what it is: secret}, beside those in the proxy's own settings."""
    name = proxy.process.name
    found = {**known, **_of_settings(proxy.settings)}
    for what, secret in found.items():
        assert secret not in output, f"{what} is in the output of {name}"
    for pattern in OF_REQUESTS:
        assert not pattern.search(output), f"{pattern.pattern} matches the output of {name}"
    for file in Path(proxy.data_dir).glob("journal.*"):
        data = file.read_bytes()
        for what, secret in found.items():
            assert secret.encode() not in data, f"{what} is in {file.name} of {name}"


def _of_settings(settings):
    found = {}
    for name, value in settings.items():
        if SECRET_SETTING.search(name) and not name.endswith("_FILE"):
            found[name] = value
    clients = settings.get("CLIENT_CREDENTIALS_FILE")
    if clients and Path(clients).is_file():
        try:
            known = json.loads(Path(clients).read_text())
        except ValueError:
            known = []  # a test has broken it on purpose
        found |= {f"{name} of a client": value for name, value in _secrets_in(known)}
    return {what: secret for what, secret in found.items() if len(secret) >= SECRET_CHARACTERS_MIN}


def _secrets_in(value, path=""):
    if isinstance(value, list):
        for number, each in enumerate(value):
            yield from _secrets_in(each, f"{path}[{number}]")
    elif isinstance(value, dict):
        for name, each in value.items():
            if "secret" in name and isinstance(each, str):
                yield f"{path}.{name}", each
            else:
                yield from _secrets_in(each, f"{path}.{name}")
