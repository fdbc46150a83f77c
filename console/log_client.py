"""The log server for threads that may wait, but not for ever. Called by the engine and the command line."""

from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ConnectionError, NoScriptError, RedisClusterException
from redis.retry import Retry

from schemas.log_url import of_cluster
from schemas.settings import Settings


def connect_redis(settings: Settings, url: str) -> Any:
    """redis-py's client. A call that failed is not repeated: it may have been done all the same."""
    options: dict[str, Any] = {"socket_timeout": 5.0, "socket_connect_timeout": 1.0}
    if "+cluster" not in url:
        return Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)
    first, others = of_cluster(url)

    def connect() -> Any:
        nodes = [ClusterNode(host, port) for host, port in others]  # type: ignore[no-untyped-call]
        client = _Cluster.from_url(first, startup_nodes=nodes, **options)  # asks again where the first master is away
        client.set_retry(Retry(NoBackoff(), 0))
        return client

    return _Unconnected(connect)


class _Script:
    """A script that is given to the server that lacks it: redis-py's own gives it to all, of which some may be away."""

    def __init__(self, client: Any, text: str) -> None:
        self._client = client
        self._text = text
        self._digest = sha1(text.encode()).hexdigest()

    def __call__(self, keys: Sequence[Any] = (), args: Sequence[Any] = ()) -> Any:
        try:
            return self._client.evalsha(self._digest, len(keys), *keys, *args)
        except NoScriptError:
            return self._client.eval(self._text, len(keys), *keys, *args)


class _Cluster(RedisCluster):
    """Fails as the client of one server does where it cannot make out the cluster."""

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().execute_command(*args, **kwargs)  # type: ignore[no-untyped-call]
        except RedisClusterException as error:
            raise ConnectionError(str(error)) from error

    def register_script(self, script: Any) -> Any:
        return _Script(self, script)


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
