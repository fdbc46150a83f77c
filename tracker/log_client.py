"""redis-py's asynchronous client of the log server, for what waits for nobody's click. Called by app.py."""

from collections.abc import Sequence
from hashlib import sha1
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, NoScriptError, RedisClusterException, TimeoutError

from schemas.log_url import of_cluster
from schemas.settings import Settings


def connect_redis(settings: Settings, url: str) -> Any:
    """redis-py's client, told not to wait: its defaults stall for seconds on a dead server. A call that failed is not
    repeated: it may have been done all the same."""
    timeout = settings.redis.timeout_ms / 1000
    options: dict[str, Any] = {
        "socket_timeout": max(timeout, 1.0),
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
    }
    if "+cluster" not in url:
        return _Server.from_url(url, **options)
    first, others = of_cluster(url)
    nodes = [ClusterNode(host, port) for host, port in others]
    return _Cluster.from_url(first, startup_nodes=nodes, **options)


async def memory_of_servers(redis: Any) -> list[dict[str, Any]]:
    """INFO memory of the server, or of each master of a cluster. Raises RedisError."""
    if not isinstance(redis, RedisCluster):
        return [await redis.info("memory")]
    found = await redis.info("memory", target_nodes=RedisCluster.PRIMARIES)
    return [found] if "used_memory" in found else list(found.values())


class _Script:
    """A script that is given to the server that lacks it: redis-py's own gives it to all, of which some may be away."""

    def __init__(self, client: Any, text: str) -> None:
        self._client = client
        self._text = text
        self._digest = sha1(text.encode()).hexdigest()

    async def __call__(self, keys: Sequence[Any] = (), args: Sequence[Any] = ()) -> Any:
        try:
            return await self._client.evalsha(self._digest, len(keys), *keys, *args)
        except NoScriptError:
            return await self._client.eval(self._text, len(keys), *keys, *args)


class _Server(Redis):
    """Says so where a connection was closed meanwhile: uvloop raises RuntimeError when something is written to one."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise ConnectionError(str(error)) from error


class _Cluster(RedisCluster):
    """Fails as the client of one server does, also where it cannot make out the cluster."""

    async def initialize(self, *arguments: Any, **named: Any) -> RedisCluster:
        try:
            return await super().initialize(*arguments, **named)
        except (ConnectionError, TimeoutError):  # of the master that was to say what commands there are: next, another
            for asked in self.nodes_manager.get_nodes_by_server_type("primary")[:1]:
                self.nodes_manager.move_node_to_end_of_cached_nodes(asked.name)
            raise

    def register_script(self, script: Any) -> Any:
        return _Script(self, script)

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().execute_command(*args, **kwargs)
        except (RedisClusterException, RuntimeError) as error:
            raise ConnectionError(str(error)) from error
