"""Settings: everything that is wrong is said at once, with the variable and the fix, and never a secret."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey
from pydantic import SecretStr

from app.core.config import Settings, SettingsError, get_settings, parse_signing_keys, settings_page

SECRET = "hunter2"
URL = f"postgresql://stockroom:{SECRET}@db.example:5432/stockroom"
P256 = ECKey.generate_key("P-256").as_pem(private=True).decode()

Given = Callable[..., Settings]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Given:
    """Reads the settings as a command does, from variables alone and an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("APP_")]:
        monkeypatch.delenv(name)

    def read(**variables: str) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(f"APP_{name.upper()}", value)
        return get_settings.__wrapped__()

    return read


def refused(given: Given, **variables: str) -> dict[str, str]:
    """What is wrong, by variable."""
    with pytest.raises(SettingsError) as error:
        given(**variables)
    assert SECRET not in str(error.value)
    assert error.value.__cause__ is None
    head, *lines = str(error.value).splitlines()
    assert head == "these settings cannot be used:"
    return dict(line.removeprefix("  APP_").split(": ", 1) for line in lines)


def test_a_laptop_needs_no_settings(given: Given) -> None:
    settings = given()
    assert (settings.environment, settings.port, settings.database_url) == ("development", 8000, None)


def test_everything_that_is_wrong_is_said_at_once(given: Given) -> None:
    wrong = refused(
        given,
        environment="production", debug="true", database_url=f"mysql://x:{SECRET}@h/d", port="99999", cors_origins="*", cors_credentials="1",
        signing_keys=SECRET, token_lifetime_seconds="soon", admin_password=SECRET, cpu_limit="two", pool_timeout_seconds="nan", log_level="loud",
    )  # fmt: skip
    assert wrong.keys() == {
        "DEBUG", "DATABASE_URL", "PORT", "CORS_CREDENTIALS", "SIGNING_KEYS", "TOKEN_LIFETIME_SECONDS", "ADMIN_PASSWORD", "CPU_LIMIT", "POOL_TIMEOUT_SECONDS",
        "LOG_LEVEL",
    }  # fmt: skip
    assert wrong["PORT"] == "Input should be less than or equal to 65535"
    assert "'debug', 'info', 'warning' or 'error'" in wrong["LOG_LEVEL"]
    assert "unset it" in wrong["DEBUG"]
    assert "postgresql://user:password@host:5432/name" in wrong["DATABASE_URL"]
    assert "openssl" in wrong["SIGNING_KEYS"]
    assert "1500m" in wrong["CPU_LIMIT"]


class TestPgBouncer:
    THROUGH = "postgresql://stockroom@bouncer.example:6432/stockroom"

    def test_what_needs_a_session_of_its_own_goes_around_it(self, given: Given) -> None:
        settings = given(database_url=self.THROUGH, database_direct_url=URL)
        assert (settings.is_behind_pgbouncer, settings.require_database_url()) == (True, self.THROUGH)
        around = settings.around_pgbouncer()
        assert (around.is_behind_pgbouncer, around.require_database_url()) == (False, URL)

    def test_without_one_there_is_nothing_to_go_around(self, given: Given) -> None:
        settings = given(database_url=URL)
        assert (settings.is_behind_pgbouncer, settings.around_pgbouncer()) == (False, settings)
        assert not given(database_url=URL, database_direct_url=URL).is_behind_pgbouncer

    def test_another_database_is_not_behind_it(self, given: Given) -> None:
        settings = given(database_url=self.THROUGH, database_direct_url=URL).with_database("postgresql://elsewhere.example/stockroom")
        assert (settings.is_behind_pgbouncer, settings.around_pgbouncer()) == (False, settings)

    def test_statements_are_prepared_through_it_only_when_asked_for(self, given: Given) -> None:
        assert given(database_url=URL).prepares_statements
        behind = {"database_url": self.THROUGH, "database_direct_url": URL}
        assert [given(**behind, prepared_statements=value).prepares_statements for value in ("", "0", "1")] == [False, False, True]

    def test_its_numbers_without_a_way_around_it_are_refused(self, given: Given) -> None:
        numbers = {"pgbouncer_max_client_connections": "500", "pgbouncer_server_connections": "20"}
        assert given(**numbers).pgbouncer_max_client_connections == 500
        assert refused(given, database_url=self.THROUGH, **numbers).keys() == {"PGBOUNCER_MAX_CLIENT_CONNECTIONS"}
        assert refused(given, database_direct_url=f"mysql://x:{SECRET}@h/d", **numbers).keys() == {"DATABASE_DIRECT_URL"}


class TestProduction:
    def test_it_refuses_to_run_without_a_database_and_keys(self, given: Given) -> None:
        wrong = refused(given, environment="production")
        assert wrong.keys() == {"DATABASE_URL", "SIGNING_KEYS"}
        assert all("required in production" in reason for reason in wrong.values())

    def test_it_runs_with_them(self, given: Given) -> None:
        assert given(environment="production", database_url=URL, signing_keys=P256).environment == "production"

    def test_it_refuses_debug(self, given: Given) -> None:
        assert refused(given, environment="production", database_url=URL, signing_keys=P256, debug="1").keys() == {"DEBUG"}
        given(environment="development", debug="1")

    @pytest.mark.parametrize("environment", ["development", "production"])
    @pytest.mark.parametrize("origins", ["*", "https://shop.example, *"])
    def test_any_origin_with_credentials_is_refused_everywhere(self, given: Given, environment: str, origins: str) -> None:
        wrong = refused(given, environment=environment, database_url=URL, signing_keys=P256, cors_origins=origins, cors_credentials="true")
        assert wrong.keys() == {"CORS_CREDENTIALS"}
        assert "APP_CORS_ORIGINS" in wrong["CORS_CREDENTIALS"]


class TestOrigins:
    @pytest.mark.parametrize(
        "origin",
        ["*", "https://shop.example", "http://localhost:3000", "https://xn--bcher-kva.example:8443", "http://[::1]:5173", "http://127.0.0.1", "app://shop",
         "https://shop.example:80"],
    )  # fmt: skip
    def test_what_a_browser_sends_is_taken(self, given: Given, origin: str) -> None:
        assert given(cors_origins=origin).cors_origins == (origin,)

    @pytest.mark.parametrize(
        "origin",
        ["https://shop.example/", "https://shop.example/shop", "https://shop.example?x", "https://Shop.example", "HTTPS://shop.example", "shop.example",
         "https://", "https://bücher.example", "https://eva@shop.example", "https://shop.example:443", "http://shop.example:80", "https://shop.example:",
         "https://*.shop.example", "null"],
    )  # fmt: skip
    def test_what_no_browser_sends_is_refused_with_its_place_and_the_form(self, given: Given, origin: str) -> None:
        wrong = refused(given, cors_origins=f"https://shop.example,{origin}")
        assert wrong.keys() == {"CORS_ORIGINS"}
        assert "entry 2" in wrong["CORS_ORIGINS"]
        assert wrong["CORS_ORIGINS"].endswith("https://shop.example")


class TestSigningKeys:
    def test_several_are_read_in_their_order_from_one_line_too(self, given: Given) -> None:
        pems = [ECKey.generate_key("P-256").as_pem(private=True).decode() for _ in range(2)]
        for text in ("".join(pems), "".join(pems).replace("\n", "\\n"), "# the newest first\n" + "\n\n".join(pems)):
            settings = given(signing_keys=text)
            assert settings.signing_keys is not None
            keys = parse_signing_keys(settings.signing_keys.get_secret_value())
            assert [key.as_pem(private=True).decode() for key in keys] == pems

    @pytest.mark.parametrize(
        "key",
        [
            ECKey.generate_key("P-384").as_pem(private=True).decode(),
            ECKey.generate_key("secp256k1").as_pem(private=True).decode(),
            RSAKey.generate_key(2048).as_pem(private=True).decode(),
            OKPKey.generate_key("Ed25519").as_pem(private=True).decode(),
            "-----BEGIN EC PRIVATE KEY-----\nnonsense\n-----END EC PRIVATE KEY-----",
        ],
        ids=["P-384", "secp256k1", "RSA", "Ed25519", "nonsense"],
    )
    def test_a_key_of_another_kind_is_refused_by_its_number(self, given: Given, key: str) -> None:
        reason = refused(given, signing_keys=P256 + key)["SIGNING_KEYS"]
        assert reason.startswith("key 2 is not a ")
        assert key.splitlines()[1] not in reason

    @pytest.mark.parametrize("key", [SECRET, "-----BEGIN EC PRIVATE KEY-----", ECKey.generate_key("P-256").as_pem(private=False).decode()])
    def test_what_holds_no_private_key_is_refused(self, given: Given, key: str) -> None:
        assert "holds no PEM private key" in refused(given, signing_keys=key)["SIGNING_KEYS"]


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://x:{SECRET}@h/d", f"postgresql+asyncpg://x:{SECRET}@h/d", f"host=h password={SECRET}", SECRET, f"postgresql://u:{SECRET}@h:port/d",
        f"postgresql://u:{SECRET}@[::1/d", f"postgresql://u:{SECRET}%zz@h/d", f"postgresql://u:{SECRET}@h/d?nonsense=1", f" postgresql://u:{SECRET}@h/d",
    ],
)  # fmt: skip
def test_a_url_that_libpq_or_sqlalchemy_cannot_read_is_refused_before_they_repeat_it(given: Given, url: str) -> None:
    assert "%40" in refused(given, database_url=url)["DATABASE_URL"]
    with pytest.raises(SettingsError) as error:
        given(database_url=URL).with_database(url)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    "url", [URL, "postgres://u:p%40ss@h/d", "postgresql:///d?host=%2Frun%2Fpostgresql", "postgresql://u@[::1]:5433/d?sslmode=require"]
)
def test_a_url_of_postgresql_is_taken_as_it_is(given: Given, url: str) -> None:
    assert given(database_url=url).require_database_url() == url


def test_without_a_database_the_way_to_get_one_is_said(given: Given) -> None:
    with pytest.raises(SettingsError, match="stockroom up"):
        given().require_database_url()


@pytest.mark.parametrize("limit", ["0", "-1", "two", "1.5.5", "m", "0.0001"])
def test_a_cpu_limit_that_is_none_is_refused(given: Given, limit: str) -> None:
    assert refused(given, cpu_limit=limit).keys() == {"CPU_LIMIT"}


def test_a_short_administrators_password_is_refused(given: Given) -> None:
    for password in (SECRET, "x" * 257, "x" * 12 + "\udcff"):
        assert "12 to 256 characters" in refused(given, admin_password=password)["ADMIN_PASSWORD"]
    given(admin_password="x" * 12)


def test_lists_are_separated_by_commas(given: Given) -> None:
    settings = given(cors_origins=" https://a.example,https://b.example ,", trusted_proxies="10.0.0.0/8")
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.trusted_proxies == ("10.0.0.0/8",)


@pytest.mark.parametrize("entry", ["*", "everybody", "10.0.0.0/99", "proxy.example.com"])
def test_a_trusted_proxy_is_an_address_or_a_network(given: Given, entry: str) -> None:
    assert f"`{entry}`" in refused(given, trusted_proxies=f"127.0.0.1, {entry}")["TRUSTED_PROXIES"]
    assert given(trusted_proxies="10.1.2.3/8, ::1").trusted_proxies == ("10.1.2.3/8", "::1")


def test_an_empty_variable_counts_as_unset(given: Given) -> None:
    assert given(port="", signing_keys="", database_url="").port == 8000


class TestDotenv:
    def test_it_is_read_from_the_working_folder(self, given: Given) -> None:
        Path(".env").write_text('APP_PORT=9000\n# a comment\nAPP_TOKEN_ISSUER="my shop"\nOTHER=ignored\n')
        settings = given()
        assert (settings.port, settings.token_issuer) == (9000, "my shop")

    def test_a_variable_is_stronger(self, given: Given) -> None:
        Path(".env").write_text("APP_PORT=9000\n")
        assert given(port="9001").port == 9001

    def test_what_is_wrong_in_it_is_said_in_the_same_way(self, given: Given) -> None:
        Path(".env").write_text(f"APP_PORT=x\nAPP_ADMIN_PASSWORD={SECRET}\n")
        assert refused(given).keys() == {"PORT", "ADMIN_PASSWORD"}

    def test_bytes_that_are_no_text_are_one_clear_line(self, given: Given) -> None:
        Path(".env").write_bytes(b"APP_TOKEN_ISSUER=\xff\xfe\n")
        with pytest.raises(SettingsError, match=r"\.env: .*UTF-8"):
            given()


def test_secrets_stay_hidden_wherever_settings_are_shown(given: Given) -> None:
    settings = given(database_url=URL, signing_keys=P256, admin_password=SECRET * 2)
    secrets = [name for name, value in settings if isinstance(value, SecretStr)]
    assert sorted(secrets) == ["admin_password", "database_url", "signing_keys"]
    for shown in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json(), repr(settings.with_database(URL))):
        assert SECRET not in shown
        assert P256.splitlines()[1] not in shown


class TestReference:
    def test_the_page_in_the_documentation_is_current(self) -> None:
        page = Path(__file__).parents[2] / "docs" / "settings.md"
        assert page.read_text() == settings_page(), "run `make docs`"

    def test_it_explains_every_setting_in_a_row_of_its_own(self) -> None:
        rows = [line for line in settings_page().splitlines() if line.startswith("| `APP_")]
        assert len(rows) == len(Settings.model_fields)
        for name, row in zip(Settings.model_fields, rows, strict=True):
            variable, default, text = (cell.strip() for cell in row.strip("|").split("|"))
            assert variable == f"`APP_{name.upper()}`"
            assert default
            assert text.endswith((".", "`)."))
