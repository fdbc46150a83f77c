"""The log server for threads that may wait, but not for ever. Called by the engine and the command line."""

from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

from schemas.settings import Settings


def connect_redis(settings: Settings, url: str) -> Any:
    """redis-py's client."""
    options: dict[str, Any] = {"socket_timeout": 5.0, "socket_connect_timeout": 1.0}
    if "+cluster" in url:
        return RedisCluster.from_url(url.replace("+cluster", ""), **options)
    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)
