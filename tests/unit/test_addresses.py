"""Addresses of several servers in one setting."""

import pytest

from shared.addresses import servers, shown
from shared.errors import PenstockError
from shared.redis_servers import redis_client


@pytest.mark.parametrize(
    ("urls", "each"),
    [
        ("nats://a:4222", ["nats://a:4222"]),
        ("nats://me:word@a:4222", ["nats://me:word@a:4222"]),
        ("nats://me:word@a:4222,b:4223", ["nats://me:word@a:4222", "nats://me:word@b:4223"]),
        ("nats://me:word@a:4222, nats://b:4223", ["nats://me:word@a:4222", "nats://me:word@b:4223"]),
        ("tls://me:word@a:1,you:other@b:2", ["tls://me:word@a:1", "tls://you:other@b:2"]),
        ("nats://a:1,b:2,", ["nats://a:1", "nats://b:2"]),
    ],
)
def test_the_credentials_of_the_first_are_those_of_all_that_have_none(urls: str, each: list[str]) -> None:
    assert servers(urls) == each


def test_no_password_is_shown() -> None:
    assert shown("nats://me:word@a:4222,b:4222") == "nats://a:4222, nats://b:4222"
    assert shown("redis://me:word@a:6379,b:6379/0") == "redis://a:6379, redis://b:6379"


@pytest.mark.parametrize("url", ["redis+sentinel://:word@a:26379,b:26379", "redis+sentinel://a:26379/"])
def test_sentinels_want_a_name(url: str) -> None:
    with pytest.raises(PenstockError, match=r"expected redis\+sentinel://host:port,…/<name>/<database>, got no name"):
        redis_client(url)


def test_user_password_database_and_options_go_to_every_server() -> None:
    pool = redis_client("redis+sentinel://me:w%40rd@a:26379,b/one/3?health_check_interval=7").connection_pool
    kept = {name: pool.connection_kwargs[name] for name in ("username", "password", "db", "health_check_interval")}
    assert kept == {"username": "me", "password": "w@rd", "db": 3, "health_check_interval": 7.0}
