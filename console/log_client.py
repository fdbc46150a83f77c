"""The log server for threads that may wait, but not for ever. Called by the engine and the command line."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ConnectionError, RedisClusterException
from redis.retry import Retry

from schemas.log_url import server_urls
from schemas.settings import Settings


def connect_redis(settings: Settings, url: str) -> Any:
    """redis-py's client. A call that failed is not repeated: it may have been done all the same."""
    options: dict[str, Any] = {"socket_timeout": 5.0, "socket_connect_timeout": 1.0}
    if "+cluster" not in url:
        return Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)
    first, *others = (one.replace("+cluster", "") for one in server_urls(url))

    def connect() -> Any:
        places = [urlsplit(one) for one in others]
        nodes = [
            ClusterNode(place.hostname or "localhost", place.port or 6379)  # type: ignore[no-untyped-call]
            for place in places
        ]
        client = _Cluster.from_url(first, startup_nodes=nodes, **options)  # asks again where the first master is away
        client.set_retry(Retry(NoBackoff(), 0))
        return client

    return _Unconnected(connect)


class _Cluster(RedisCluster):
    """Fails as the client of one server does where it cannot make out the cluster."""

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().execute_command(*args, **kwargs)  # type: ignore[no-untyped-call]
        except RedisClusterException as error:
            raise ConnectionError(str(error)) from error


class _Unconnected:
    """A client of a cluster that connects when it is first used: redis-py's would do so when it is made, and a cluster
    may be away then."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._client: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._client is None:
            try:
                self._client = self._connect()
            except RedisClusterException as error:
                raise ConnectionError(str(error)) from error
        return getattr(self._client, name)
