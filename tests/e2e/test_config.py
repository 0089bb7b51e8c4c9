"""Configuration: wholly valid, or exit 64 with every fault named at once and no secret repeated."""

import pytest

from support.process import binary, free_port, run_to_end

EX_USAGE = 64

SECRETS = {
    "MAIN_SECRET_KEY": "main-secret-Zq81",
    "MIRROR_SECRET_KEY": "mirror-secret-Yp72",
    "POSTGRES_PASSWORD": "database-secret-Xo63",
}


def valid(tmp_path):
    return {
        "MAIN_S3_ENDPOINT": "http://127.0.0.1:1",
        "MAIN_ACCESS_KEY": "MAINKEY",
        "MAIN_SECRET_KEY": SECRETS["MAIN_SECRET_KEY"],
        "MIRROR_S3_ENDPOINT": "http://127.0.0.1:2",
        "MIRROR_ACCESS_KEY": "MIRRORKEY",
        "MIRROR_SECRET_KEY": SECRETS["MIRROR_SECRET_KEY"],
        "POSTGRES_PASSWORD": SECRETS["POSTGRES_PASSWORD"],
        "DATA_DIR": str(tmp_path / "data"),
        "LISTEN_ADDR": f"127.0.0.1:{free_port()}",
        "ADMIN_ADDR": f"127.0.0.1:{free_port()}",
    }


def refused(settings):
    """Runs `serve`, asserts exit 64 and that nothing secret is said; returns what was said."""
    code, out, err = run_to_end([binary(), "serve"], settings)
    said = out + err
    assert code == EX_USAGE, f"exit {code}\n{said}"
    for secret in SECRETS.values():
        assert secret not in said, f"a secret is repeated:\n{said}"
    assert "panicked" not in said, said
    return said


FAULTS = {
    "MAIN_S3_ENDPOINT": "not a url",
    "MIRROR_S3_ENDPOINT": "ftp://mirror.example",
    "LISTEN_ADDR": "localhost",
    "ADMIN_ADDR": "127.0.0.1:99999",
    "LOG_LEVEL": "chatty",
    "DISABLE_DATABASE": "perhaps",
    "POSTGRES_PORT": "70000",
    "POSTGRES_SSLMODE": "sometimes",
    "JOURNAL_SYNC": "maybe",
    "JOURNAL_REQUIRED": "2",
    "FENCE": "never",
    "TEE_MEMORY_BYTES": "-1",
    "TEE_SPOOL_BYTES": "lots",
    "DRAIN_TIMEOUT_SECONDS": "soon",
    "MIRROR_CONCURRENCY": "0",
    "MIRROR_BUCKET_PREFIX": "Not/Legal",
    "PROXY_DOMAIN": "http://not.a.domain/",
    "ADMIN_HOSTS": "https://mirror.example.com",
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_variable_is_named_and_the_exit_code_is_64(tmp_path, name):
    said = refused({**valid(tmp_path), name: FAULTS[name]})
    assert name in said, said
    others = [other for other in FAULTS if other != name and other in said]
    assert not others, f"blamed without reason: {others}\n{said}"


def test_all_faults_are_reported_at_once(tmp_path):
    said = refused({**valid(tmp_path), **FAULTS})
    missing = [name for name in FAULTS if name not in said]
    assert not missing, f"not named: {missing}\n{said}"


def test_the_mirror_s_endpoint_is_required(tmp_path):
    settings = valid(tmp_path)
    del settings["MIRROR_S3_ENDPOINT"]
    assert "MIRROR_S3_ENDPOINT" in refused(settings)


@pytest.mark.parametrize("side", ["MAIN", "MIRROR"])
@pytest.mark.parametrize("missing", ["ACCESS_KEY", "SECRET_KEY"])
def test_half_a_key_pair_is_a_fault(tmp_path, side, missing):
    settings = valid(tmp_path)
    del settings[f"{side}_{missing}"]
    assert f"{side}_{missing}" in refused(settings)


@pytest.mark.parametrize("name", ["MAIN_S3_ENDPOINT", "POSTGRES_URL"])
def test_a_secret_inside_a_faulty_url_is_not_repeated(tmp_path, name):
    secret = SECRETS["POSTGRES_PASSWORD"]
    settings = {**valid(tmp_path), name: f"nonsense://user:{secret}@host:port:port/x y"}
    assert name in refused(settings)


def test_a_port_in_use_is_a_clear_error_and_not_a_configuration_fault(lab):
    first = lab.proxy()
    second = lab.proxy(name="second", start=False)
    second.process.environment["LISTEN_ADDR"] = first.settings["LISTEN_ADDR"]
    second.process.spawn()
    code = second.process.wait(20)
    assert code not in (0, EX_USAGE) and code > 0
    said = second.process.stdout() + second.process.stderr()
    assert first.settings["LISTEN_ADDR"] in said and "panicked" not in said, said


def test_serve_is_what_happens_without_a_subcommand(lab):
    proxy = lab.proxy(start=False)
    assert proxy.process.arguments.pop() == "serve"
    proxy.start()
    bucket = lab.bucket("default")
    lab.client(proxy).put_object(Bucket=bucket, Key="k", Body=b"x")
    lab.assert_converged(proxy, bucket)


def test_help_and_version_say_what_there_is():
    code, out, _ = run_to_end([binary(), "--help"])
    assert code == 0
    for command in ("serve", "dev", "store"):
        assert command in out
    code, out, _ = run_to_end([binary(), "--version"])
    assert code == 0 and out.startswith("s3-mirror ")


def test_an_unknown_subcommand_is_refused():
    code, out, err = run_to_end([binary(), "sevre"])
    assert code != 0 and "sevre" in err
